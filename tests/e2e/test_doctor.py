"""`merino doctor` as a caller: each mistake is made, and named."""

from __future__ import annotations

import json
import sqlite3
import subprocess
import sys

import pytest
from tests.fake_server import MODELS, closed_port, fake_server, full_server

from merino.cli.root import run

KEY = "mk-Zm9vYmFyYmF6cXV4MTIzNDU2"
MISSING = (401, {"error": {"message": "no key", "type": "t", "code": "missing_api_key"}})
"""How a relay answers a request without a key."""


def test_a_caller_for_whom_all_is_well(doctor, relay) -> None:
    """Exit code 0, nothing wrong, one free look at the models, and no key in sight."""
    seen = doctor("--base-url", f"{relay.url}/v1", "--api-key", relay.key)

    assert (0, set()) == (seen.code, seen.wrong)
    assert {"base-url", "proxy", "name-resolution", "server-unreachable", "clock-skew", "key"} == (
        set(seen.found)
    )
    assert relay.key not in seen.output + seen.errors


def test_the_same_from_the_environment(doctor, relay) -> None:
    """Both families of variables are read; the model may be asked, and its price is told."""
    seen = doctor("--model", "sim/o3", OPENAI_BASE_URL=f"{relay.url}/v1", OPENAI_API_KEY=relay.key)

    assert (0, {"parameter-refused"}) == (seen.code, seen.wrong)
    assert "this costs at most 0.000" in seen.errors
    assert "max_tokens->max_completion_tokens" in seen.output


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("", "v1-missing"),
        ("/v1/v1", "v1-doubled"),
        ("/v1/chat/completions", "endpoint-in-base-url"),
    ],
)
def test_a_base_url_that_is_nearly_right(doctor, relay, path, expected) -> None:
    """The mistake is named, and the rest examined at what was meant."""
    seen = doctor("--base-url", relay.url + path, "--api-key", relay.key)

    assert (1, {expected}) == (seen.code, seen.problems)
    assert "ok" == seen.found["key"]


def test_an_api_below_the_path_that_was_given(doctor) -> None:
    """What the text cannot tell, the server does."""
    with fake_server({"/team/v1/models": (200, MODELS)}) as server:
        seen = doctor("--base-url", f"{server.address}/team", "--api-key", KEY)

    assert {"v1-missing"} == seen.problems


def test_a_url_that_is_none(doctor) -> None:
    """Nothing is tried with it."""
    assert {"base-url"} == doctor("--base-url", "relay:8080", "--api-key", KEY).problems


# -- the way --------------------------------------------------------------------------------------


def test_a_name_nobody_knows(doctor) -> None:
    """The look ends where the way ends."""
    seen = doctor("--base-url", "http://relay.invalid/v1", "--api-key", KEY)

    assert {"name-resolution"} == seen.problems
    assert "key" not in seen.found


def test_a_port_nobody_listens_on(doctor) -> None:
    """Refused is told apart from silence."""
    seen = doctor("--base-url", f"http://127.0.0.1:{closed_port()}/v1", "--api-key", KEY)

    assert {"server-unreachable"} == seen.problems


def test_a_server_that_is_silent(doctor, monkeypatch) -> None:
    """A firewall drops what it does not want: no answer at all."""
    monkeypatch.setattr("merino.doctor.caller.STEP_TIMEOUT_S", 0.2)
    with full_server() as port:
        seen = doctor("--base-url", f"http://127.0.0.1:{port}/v1", "--api-key", KEY)

    assert {"connect-timeout"} == seen.problems


def test_something_else_listens_there(doctor) -> None:
    """A web page is no API."""
    with fake_server({}) as server:
        seen = doctor("--base-url", f"{server.address}/v1", "--api-key", KEY)

    assert {"answer"} == seen.problems
    assert {None} == {authorization for _, _, authorization in server.seen}


@pytest.mark.parametrize(("ahead_s", "severity"), [(-120, "warning"), (4000, "problem")])
def test_a_clock_that_is_wrong(doctor, ahead_s, severity) -> None:
    """The server's Date is compared with ours."""
    with fake_server(ahead_s=ahead_s) as server:
        seen = doctor("--base-url", f"{server.address}/v1", "--api-key", KEY)

    assert severity == seen.found["clock-skew"]


# -- proxies --------------------------------------------------------------------------------------


def test_a_proxy_that_catches_a_relay_here(doctor, relay) -> None:
    """The relay itself is well, and said to be."""
    proxy = f"http://127.0.0.1:{closed_port()}"
    url = f"{relay.url}/v1"
    caught = doctor("--base-url", url, "--api-key", relay.key, HTTP_PROXY=proxy)
    excepted = doctor(
        "--base-url", url, "--api-key", relay.key, HTTP_PROXY=proxy, NO_PROXY="127.0.0.1"
    )

    assert ({"proxy-catches-local"}, "ok") == (caught.problems, caught.found["key"])
    assert set() == excepted.wrong


def test_a_proxy_that_is_gone(doctor) -> None:
    """It is the proxy that cannot be reached, not the server."""
    proxy = f"http://me:proxy-password@127.0.0.1:{closed_port()}"
    url = "http://relay.example/v1"
    seen = doctor("--base-url", url, "--api-key", KEY, http_proxy=proxy)

    assert {"proxy-unreachable"} == seen.problems
    assert "proxy-password" not in seen.output


def test_a_proxy_in_between(doctor) -> None:
    """Requests go through it as a client's would; a password it wants is told apart from a key."""
    url = "http://relay.example/v1"
    with fake_server({f"{url}/models": (200, MODELS)}) as proxy:
        through = doctor("--base-url", url, "--api-key", KEY, HTTP_PROXY=proxy.address)
        proxy.answers = {f"{url}/models": (407, "who are you?")}
        locked = doctor("--base-url", url, "--api-key", KEY, HTTP_PROXY=proxy.address)

    assert ("warning", "ok") == (through.found["proxy"], through.found["key"])
    assert {"proxy"} == locked.problems


# -- keys -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("key", "base_url", "expected"),
    [
        (KEY, "https://api.openai.com/v1", "relay-key-at-provider"),
        ("sk-ant-0123456789abcdef", "https://api.openai.com/v1", "other-providers-key"),
        ("sk-proj-0123456789abcdef", "http://relay.invalid/v1", "provider-key-at-relay"),
    ],
)
def test_a_key_for_somebody_else_goes_nowhere(doctor, key, base_url, expected) -> None:
    """Told before the server's name is even looked up."""
    seen = doctor("--base-url", base_url, "--api-key", key)

    assert {expected} == seen.problems
    assert "name-resolution" not in seen.found
    assert key not in seen.output


def test_a_relays_key_without_a_base_url(doctor) -> None:
    """The usual "Invalid API key" although the key is right: calls go to OpenAI."""
    assert {"relay-key-at-provider"} == doctor(OPENAI_API_KEY=KEY).problems


def test_nothing_at_all(doctor) -> None:
    """Without key and base URL nobody is asked anything."""
    seen = doctor()

    assert (1, {"key-missing"}) == (seen.code, seen.problems)
    assert {"base-url", "key-missing"} == set(seen.found)


def test_an_openai_key_is_not_sent_to_a_relay(doctor) -> None:
    """The relay is known by its answer to a stranger; then nothing more is sent."""
    with fake_server({"/v1/models": MISSING}) as server:
        seen = doctor("--base-url", f"{server.address}/v1", "--api-key", "sk-plain0123456789")

    assert {"provider-key-at-relay"} == seen.problems
    assert [("GET", "/v1/models", None)] == server.seen


def test_an_sk_key_at_a_stranger_is_only_a_warning(doctor) -> None:
    """Other relays issue keys of this shape."""
    with fake_server() as server:
        seen = doctor("--base-url", f"{server.address}/v1", "--api-key", "sk-plain0123456789")

    assert (0, {"provider-key-at-relay"}) == (seen.code, seen.wrong)


@pytest.mark.parametrize(
    ("key", "expected"),
    [
        ("{key} ", "key-characters"),
        ("'{key}'", "key-characters"),
        ("{key}\n", "key-characters"),
        ("Bearer {key}", "key-characters"),
        ("YOUR_API_KEY", "key-placeholder"),
        ("mka-0123456789abcdef", "admin-key"),
        ("mk-nobodys-key-at-all", "key"),
    ],
)
def test_a_key_that_is_wrong(doctor, relay, key, expected) -> None:
    """Pasted with something, an example's, an administrator's, or unknown to the server."""
    text = key.format(key=relay.key)
    seen = doctor("--base-url", f"{relay.url}/v1", MERINO_API_KEY=text)

    assert (1, {expected}) == (seen.code, seen.problems)
    assert relay.key not in seen.output


def test_a_key_that_was_disabled_or_has_expired(doctor, start_relay) -> None:
    """The relay says which, and so does the doctor."""
    relay = start_relay()
    off = relay.cli("keys", "create", "--name", "off")["key"]
    old = relay.cli("keys", "create", "--name", "old", "--expires-at", "2100-01-01")["key"]
    relay.cli("keys", "disable", "off")
    relay.stop()
    with sqlite3.connect(relay.data / "merino.db") as connection:
        connection.execute("UPDATE keys SET expires_at_ms = 1 WHERE name = 'old'")
    connection.close()
    relay.start()
    url = f"{relay.url}/v1"

    assert {"key-disabled"} == doctor("--base-url", url, "--api-key", off).problems
    assert {"key-expired"} == doctor("--base-url", url, "--api-key", old).problems


# -- models, money, limits ------------------------------------------------------------------------


def test_a_model_that_is_spelt_wrong(doctor, relay) -> None:
    """The nearest names are offered, and nothing is asked."""
    url = f"{relay.url}/v1"
    seen = doctor("--base-url", url, "--api-key", relay.key, "--model", "O3-Mini")

    assert {"alias-unknown"} == seen.problems
    assert "or o3-mini or" in seen.output
    assert "" == seen.errors


def test_an_account_without_credit(doctor, relay) -> None:
    """The one call is refused for good, which costs nothing."""
    relay.cli("accounts", "create", "--name", "poor")
    key = relay.cli("keys", "create", "--name", "poor", "--account", "poor")["key"]
    url = f"{relay.url}/v1"
    seen = doctor("--base-url", url, "--api-key", key, "--model", "sim/o3")

    assert {"credit-used-up"} == seen.problems


def test_a_key_at_its_limit(doctor, relay) -> None:
    """The limit is named by the relay's own words."""
    key = relay.cli("keys", "create", "--name", "slow", "--rpm", "1")["key"]
    arguments = ("--base-url", f"{relay.url}/v1", "--api-key", key, "--model", "sim/o3")
    first = doctor(*arguments)
    second = doctor(*arguments)

    assert (0, {"limit-reached"}) == (first.code, second.problems)
    assert "1 requests per minute of key 'slow'" in second.output


def test_a_timeout_by_the_relays_metrics(doctor, relay) -> None:
    """Who has no data folder at hand is told by the relay's histogram."""
    with relay.http() as client:
        ask = {"model": "sim/o4", "messages": [{"role": "user", "content": "Hi"}]}
        for _ in range(20):
            assert 200 == client.post("/v1/chat/completions", json=ask).status_code
    arguments = ("--base-url", f"{relay.url}/v1", "--api-key", relay.key, "--model", "sim/o4")

    assert {"timeout-short"} == doctor(*arguments, "--timeout-s", "0.0001").problems
    assert "ok" == doctor(*arguments).found["timeout-short"]


# -- variables ------------------------------------------------------------------------------------


def test_variables_that_contradict_each_other(doctor, relay) -> None:
    """What wins is used; what loses is told."""
    url = f"{relay.url}/v1"
    seen = doctor(
        MERINO_BASE_URL=url,
        OPENAI_BASE_URL="http://relay.invalid/v1",
        MERINO_API_KEY=relay.key,
        OPENAI_API_KEY="sk-plain0123456789",
    )
    mixed = doctor(MERINO_BASE_URL=url, OPENAI_API_KEY=relay.key, OPENAI_API_BASE=url)

    assert (0, {"base-url-override", "key-override"}) == (seen.code, seen.wrong)
    assert {"mixed-variables", "legacy-variable"} == mixed.wrong


# -- the command ----------------------------------------------------------------------------------


def test_people_get_a_list_and_a_summary(relay, tmp_path) -> None:
    """Plain lines without colours where nobody looks; the worst comes last."""
    done = subprocess.run(
        [
            *(sys.executable, "-m", "merino", "doctor", "--data", str(relay.data)),
            *("--base-url", relay.url, "--api-key", relay.key, "--config", str(relay.config)),
        ],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
        cwd=tmp_path,
        env=relay.env,
    )
    lines = done.stdout.splitlines()

    assert (1, "") == (done.returncode, done.stderr)
    assert "\x1b" not in done.stdout
    assert lines[-4].startswith("problem  The base URL")
    assert f"         -> Write {relay.url}/v1." == lines[-3]
    assert "         docs/reference/doctor.md#v1-missing" == lines[-2]
    assert lines[-1].startswith("1 problem, no warnings, ")
    assert relay.key not in done.stdout


def test_a_terminal_gets_colours(doctor, monkeypatch, capfd) -> None:
    """Unless NO_COLOR asks for none."""
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    coloured = (run(["doctor"]), capfd.readouterr().out)
    monkeypatch.setenv("NO_COLOR", "1")
    plain = (run(["doctor"]), capfd.readouterr().out)

    assert (1, 1) == (coloured[0], plain[0])
    assert ("\x1b[31mproblem" in coloured[1], "\x1b" in plain[1]) == (True, False)


@pytest.mark.parametrize(
    "arguments", [("--timeout-s", "0"), ("--timeout-s", "soon"), ("--bogus",), ("argument",)]
)
def test_a_command_line_that_is_wrong(doctor, capfd, arguments) -> None:
    """Exit code 2 and one line, as of every command."""
    code = run(["doctor", *arguments])

    assert 2 == code
    assert 1 == len(capfd.readouterr().err.splitlines())


def test_programs_get_json(doctor) -> None:
    """Every finding has the same five members, and the page is one of ours."""
    report = json.loads(doctor().output)

    assert {"healthy", "base_url", "problems", "warnings", "findings"} == set(report)
    assert (False, 1) == (report["healthy"], report["problems"])
    for each in report["findings"]:
        assert ["id", "severity", "seen", "mend", "page"] == list(each)
        assert f"docs/reference/doctor.md#{each['id']}" == each["page"]
