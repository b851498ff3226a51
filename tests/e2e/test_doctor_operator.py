"""`merino doctor` on a relay's own machine: settings, folder, books, prices, upstreams."""

from __future__ import annotations

import re
import sqlite3
from pathlib import Path
from typing import Any

import pytest
from tests.fake_server import closed_port

from merino.cli.root import run
from merino.simulator.server import simulator_in_thread

DEPLOYMENT = """
[[deployments]]
name = "mine"
base_url = "{url}"
upstream_model = "{model}"
credential = "env:UPSTREAM_KEY"
{more}
"""
PRICE = "price = { input = 1.00, output = 10.00 }"
CREDENTIAL = "credential-of-the-operator"


def config(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "doctor.toml"
    path.write_text(text)
    return path


def deployment(url: str, *, model: str = "plain", more: str = PRICE) -> str:
    return DEPLOYMENT.format(url=url, model=model, more=more)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A data folder that no relay runs on."""
    path = tmp_path / "quiet"
    path.mkdir(mode=0o700)
    assert 0 == run(["accounts", "list", "--data", str(path)])
    return path


def ask(relay: Any, key: str, times: int) -> list[int]:
    body = {"model": "sim/o3", "messages": [{"role": "user", "content": "Hi"}]}
    with relay.http() as client:
        bearer = {"authorization": f"Bearer {key}"}
        return [
            client.post("/v1/chat/completions", json=body, headers=bearer).status_code
            for _ in range(times)
        ]


def port_of(relay: Any) -> str:
    return re.sub(r".*:", "", relay.url)


def test_a_relay_that_is_well(doctor, start_relay) -> None:
    """Found by its data folder alone; the address is that of its settings."""
    relay = start_relay()
    seen = doctor("--data", relay.data, MERINO_SERVER__PORT=port_of(relay))
    keyed = doctor(
        "--data",
        relay.data,
        MERINO_SERVER__PORT=port_of(relay),
        MERINO_API_KEY=relay.key,
    )

    assert (0, {"key-missing"}) == (seen.code, seen.wrong)
    assert (0, set()) == (keyed.code, keyed.wrong)
    operators = {"settings", "folder", "disk-space", "database", "ledger", "price-missing"}
    assert operators | {"relay-stopped", "credit-used-up", "key"} <= set(keyed.found)


def test_a_relay_at_another_port_is_not_called_broken(doctor, start_relay) -> None:
    """It runs; only where cannot be known from its settings."""
    seen = doctor("--data", start_relay().data, MERINO_SERVER__PORT=closed_port())

    assert (0, "warning") == (seen.code, seen.found["server-unreachable"])


def test_no_relay_on_the_folder(doctor, folder) -> None:
    """The books are looked at all the same."""
    seen = doctor("--data", folder)

    assert (0, {"relay-stopped"}) == (seen.code, seen.wrong)
    assert ("ok", "ok") == (seen.found["database"], seen.found["ledger"])
    assert "server-unreachable" not in seen.found


def test_a_folder_that_is_not_there(doctor, tmp_path) -> None:
    """A misspelt name is told, and nothing is made."""
    seen = doctor("--data", tmp_path / "typo")

    assert {"folder"} == seen.problems
    assert not (tmp_path / "typo").exists()


def test_a_folder_others_may_read(doctor, folder) -> None:
    """Looked at before it is opened, which would mend it."""
    folder.chmod(0o755)

    assert "warning" == doctor("--data", folder).found["folder"]


def test_a_folder_without_a_database(doctor, tmp_path) -> None:
    """Looking does not make one."""
    empty = tmp_path / "new"
    empty.mkdir(mode=0o700)

    assert "warning" == doctor("--data", empty).found["database"]
    assert [] == list(empty.iterdir())


def test_a_database_that_is_broken(doctor, folder) -> None:
    """What SQLite cannot read is a problem, not a traceback."""
    for path in folder.glob("merino.db*"):
        path.unlink()
    (folder / "merino.db").write_bytes(b"no database at all, " * 100)

    seen = doctor("--data", folder)

    assert (1, {"database"}) == (seen.code, seen.problems)


def test_books_that_do_not_balance(doctor, folder) -> None:
    """The difference is named."""
    assert 0 == run(["accounts", "create", "--name", "a", "--data", str(folder)])
    assert 0 == run(["accounts", "credit", "a", "5", "--data", str(folder)])
    with sqlite3.connect(folder / "merino.db") as connection:
        connection.execute(
            "UPDATE balances SET posted_nanos = posted_nanos + 1 WHERE posted_nanos > 0"
        )
    connection.close()

    assert {"ledger"} == doctor("--data", folder).problems


def test_a_disk_that_is_nearly_full(doctor, folder, monkeypatch) -> None:
    """Told before the relay refuses every call."""
    monkeypatch.setattr("merino.doctor.folder.FREE_WARNING_BYTES", 2**62)
    monkeypatch.setattr("merino.doctor.folder.FREE_PROBLEM_BYTES", 2**61)

    assert {"disk-space"} == doctor("--data", folder).problems


def test_settings_that_are_wrong(doctor, tmp_path) -> None:
    """Each line of `merino config check` is a finding."""
    path = config(tmp_path, '[server]\nprot = 1\nhost = ""\n')
    seen = doctor("--config", path)

    assert {"settings"} == seen.problems
    assert "did you mean port?" in seen.output
    assert 2 == seen.output.count('"id": "settings"')
    assert {"settings"} == doctor("--config", tmp_path / "none.toml").problems


def test_settings_that_are_unwise(doctor, tmp_path) -> None:
    """A credential in the file works, and is a warning; it is not repeated."""
    with simulator_in_thread(credential=CREDENTIAL) as upstream:
        text = deployment(upstream.base_url).replace("env:UPSTREAM_KEY", CREDENTIAL)
        seen = doctor("--config", config(tmp_path, text))

    assert ("warning", "ok") == (seen.found["settings"], seen.found["credential-rejected"])
    assert CREDENTIAL not in seen.output


def test_a_model_without_a_price(doctor, tmp_path) -> None:
    """Its calls would be refused, since nobody could be billed."""
    with simulator_in_thread() as upstream:
        path = config(tmp_path, deployment(upstream.base_url, model="nobodys", more=""))
        seen = doctor("--config", path, UPSTREAM_KEY=CREDENTIAL)

    assert {"price-missing"} == seen.problems


def test_credentials_that_are_missing(doctor, tmp_path) -> None:
    """A variable that is not set, and a provider that would be asked without one."""
    unset = doctor("--config", config(tmp_path, deployment("http://127.0.0.1:9/v1")))
    text = deployment("https://api.openai.com/v1").replace('credential = "env:UPSTREAM_KEY"', "")
    without = doctor("--config", config(tmp_path, text))

    assert {"credential-missing"} == unset.problems
    assert {"credential-missing"} == without.problems


def test_a_credential_the_provider_refuses(doctor, tmp_path) -> None:
    """Asked for its list of models, the provider says 401; the right one is fine."""
    with simulator_in_thread(credential=CREDENTIAL) as upstream:
        path = config(tmp_path, deployment(upstream.base_url))
        wrong = doctor("--config", path, UPSTREAM_KEY="some-other-credential")
        right = doctor("--config", path, UPSTREAM_KEY=CREDENTIAL)

    assert {"credential-rejected"} == wrong.problems
    assert "some-other-credential" not in wrong.output
    assert "ok" == right.found["credential-rejected"]


def test_the_apis_of_an_upstream(doctor, tmp_path) -> None:
    """It is asked with an empty call whether it has the Responses API; settings that claim what is
    not there are told."""
    claim = 'endpoints = ["responses"]\n'
    for defaults, more, severity in (("", "", "ok"), ("no_responses", "", "ok"),
                                     ("no_responses", claim, "problem")):  # fmt: skip
        with simulator_in_thread(credential=CREDENTIAL, defaults=defaults) as upstream:
            path = config(tmp_path, deployment(upstream.base_url, more=f"{PRICE}\n{more}"))
            seen = doctor("--config", path, UPSTREAM_KEY=CREDENTIAL)
        assert severity == seen.found["responses-api"]


def test_an_upstream_that_is_gone(doctor, tmp_path) -> None:
    """The reason is the same as for a caller's own way."""
    path = config(tmp_path, deployment(f"http://127.0.0.1:{closed_port()}/v1"))

    assert {"upstream-unreachable"} == (doctor("--config", path, UPSTREAM_KEY=CREDENTIAL).problems)


def test_a_proxy_between_relay_and_provider(doctor, tmp_path) -> None:
    """The relay's way to a provider of its own network must not lead through it either."""
    with simulator_in_thread(credential=CREDENTIAL) as upstream:
        path = config(tmp_path, deployment(upstream.base_url))
        seen = doctor("--config", path, UPSTREAM_KEY=CREDENTIAL, HTTP_PROXY="http://127.0.0.1:9")

    assert {"proxy-catches-local"} == seen.problems


def test_a_model_that_refuses_parameters(doctor, start_relay) -> None:
    """The relay learns one parameter from each refusal, and mends; the doctor says what."""
    with simulator_in_thread() as upstream:
        text = deployment(upstream.base_url, model="o3!strict")
        environ = {"UPSTREAM_KEY": CREDENTIAL}
        mending = start_relay(text, name="mending", env=environ)
        mended = doctor(
            *("--base-url", f"{mending.url}/v1", "--api-key", mending.key, "--model", "mine")
        )

    assert (0, {"parameter-refused"}) == (mended.code, mended.wrong)
    assert "temperature" in mended.output


def test_one_account_is_empty(doctor, start_relay) -> None:
    """The operator's doctor knows it from the books, without a call."""
    relay = start_relay()
    relay.cli("accounts", "create", "--name", "poor")
    key = relay.cli("keys", "create", "--name", "poor", "--account", "poor")["key"]
    seen = doctor("--data", relay.data, "--api-key", key, MERINO_SERVER__PORT=port_of(relay))

    assert {"credit-used-up"} == seen.problems
    assert "" == seen.errors


def test_a_burst_and_a_short_timeout_by_the_call_records(doctor, start_relay) -> None:
    """What the relay remembers of its calls tells why they failed."""
    relay = start_relay()
    key = relay.cli("keys", "create", "--name", "eager", "--rpm", "20")["key"]
    statuses = ask(relay, key, 40)
    seen = doctor("--data", relay.data, "--timeout-s", "0.0001", MERINO_SERVER__PORT=port_of(relay))

    assert {200, 429} == set(statuses)
    assert {"burst", "timeout-short"} == seen.problems
    assert "'eager'" in seen.output
