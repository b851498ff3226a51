"""Deployments and aliases that are added while a relay runs, beside those of its settings file."""

from __future__ import annotations

import tomllib
from dataclasses import fields

import pytest
from tests.in_process import InProcess, run_command

from merino.operations.additions import AliasChange, DeploymentTerms, place_of
from merino.settings import load
from merino.settings.sections.deployments import AliasSettings, DeploymentSettings

SIM = {"provider": "simulator", "upstream_model": "o3-mini!output=3,reasoning=0"}
PRICED = {**SIM, "price_input": "1.00", "price_output": "2.5"}
ENVIRON = {"SOME_API_KEY": "sk-of-the-environment", "STRIPE_SECRET": "sk-other"}
ELSEWHERE = {
    "name": "far",
    "base_url": "https://api.example.com/v1",
    "credential": "env:SOME_API_KEY",
    "upstream_model": "llama",
    "price_input": "1",
    "price_output": "2",
}


@pytest.fixture
def relay(tmp_path):
    relay = InProcess(tmp_path, environ=ENVIRON)
    yield relay
    relay.close()


def added(relay: InProcess, path: str, status: int = 201, **body):
    answer = relay.admin.post(path, json=body)
    assert status == answer.status_code, answer.text
    return answer.json()


def refused(relay: InProcess, **body) -> dict:
    answer = relay.admin.post("/deployments", json=body)
    assert answer.status_code in (400, 409), answer.text
    return answer.json()["error"]


def by_name(relay: InProcess, path: str = "/deployments") -> dict:
    return {each["name"]: each for each in relay.admin.get(path).json()["data"]}


def test_an_added_deployment_takes_calls_at_once_and_after_a_restart(relay):
    """It is billed with its own price, and its name is a model like those of the file."""
    made = added(relay, "/deployments", name="quick", **PRICED)
    assert ("added", "quick") == (made["source"], made["name"])
    assert "file" == by_name(relay)["fast"]["source"]
    for _ in range(2):
        answer = relay.chat("quick")
        assert 200 == answer.status, answer.body
        relay.restart()
    [call, _] = relay.admin.get("/calls", params={"alias": "quick"}).json()["data"]
    expected = call["input_tokens"] * 1_000 + call["output_tokens"] * 2_500
    assert ("quick", expected) == (call["deployment"], call["upstream_nanos"])


def test_an_alias_names_what_the_file_has_and_what_was_added(relay):
    """Its deployments may be of either; removing one that it names is refused with the reason."""
    added(relay, "/deployments", name="quick", **PRICED)
    added(relay, "/aliases", name="talk", deployments=["quick", "fast"], output_tokens_max=100)
    found = by_name(relay, "/aliases")["talk"]
    assert (["quick", "fast"], "added", 100) == (
        found["deployments"], found["source"], found["output_tokens_max"],
    )  # fmt: skip
    assert 200 == relay.chat("talk").status
    error = added(relay, "/deployments/remove", 409, name="quick")["error"]
    assert "alias 'talk'" in error["message"]
    added(relay, "/aliases/remove", 200, name="talk")
    assert {"name": "quick", "removed": True} == added(
        relay, "/deployments/remove", 200, name="quick"
    )
    assert 404 == relay.chat("quick").status
    assert 404 == relay.chat("talk").status


def test_a_change_keeps_what_it_does_not_say(relay):
    """`null` takes the default; what is in force changes with it."""
    added(relay, "/deployments", **{**ELSEWHERE, "rpm": 5})
    changed = added(
        relay, "/deployments/change", 200, name="far", upstream_model="llama-2", rpm=None,
        first_token_timeout_s=7.5, headers=["X-Title: Merino"],
    )  # fmt: skip
    assert ("llama-2", 7.5, ELSEWHERE["base_url"]) == (
        changed["upstream_model"], changed["first_token_timeout_s"], changed["base_url"],
    )  # fmt: skip
    terms = relay.store.additions.list()[0].terms
    assert {"X-Title": "Merino"} == terms["headers"]
    assert "limits" not in terms


@pytest.mark.parametrize(
    ("changes", "param", "words"),
    [
        ({"credential": "sk-1234567890"}, "credential", "env:NAME"),
        ({"credential": "env:STRIPE_SECRET"}, "credential", "upstream.references"),
        ({"credential": "env:NO_API_KEY"}, "credential", "not set"),
        ({"credential": "file:/etc/passwd"}, "credential", "upstream.references"),
        ({"headers": ["Authorization: Bearer sk-1"]}, "headers", "env:NAME"),
        ({"headers": ["X-Note: " + "a1" * 20]}, "headers", "env:NAME"),
        ({"headers": ["nonsense"]}, "headers", "Name: value"),
        ({"base_url": "ftp://x"}, "base_url", "http"),
        ({"base_url": None}, "base_url", "missing"),
        ({"name": "fast"}, "name", "choose another"),
        ({"price_input": None, "price_output": None}, "price_input", "No price is known"),
    ],
)
def test_what_cannot_be_used_is_refused_with_its_field(relay, changes, param, words):
    """Nothing is kept of it, and no secret is told back."""
    body = {**ELSEWHERE, **changes}
    error = refused(relay, **body)
    assert (param, True) == (error["param"], words in error["message"]), error
    assert "sk-1" not in error["message"]
    assert () == tuple(relay.store.additions.list())
    assert {"fast", "broken"} == {name for name in by_name(relay) if not name.startswith("sim/")}


def test_secrets_are_only_referred_to(relay):
    """The database holds the reference; the secret is the environment's."""
    added(relay, "/deployments", **ELSEWHERE)
    assert by_name(relay)["far"]["has_credential"]
    relay.run(relay.store.ledger.caught_up())
    kept = b"".join(each.read_bytes() for each in relay.data.glob("merino.db*"))
    assert ENVIRON["SOME_API_KEY"].encode() not in kept
    assert b"env:SOME_API_KEY" in kept


def test_a_start_leaves_out_what_can_no_longer_be_used(relay):
    """A variable that is gone stops no relay, only what needs it, and what names that."""
    added(relay, "/deployments", **ELSEWHERE)
    added(relay, "/deployments", name="quick", **PRICED)
    added(relay, "/aliases", name="talk", deployments=["far"])
    del relay._environ["SOME_API_KEY"]
    relay.restart()
    left_out = relay.relay.left_out()
    assert {("deployment", "far"), ("alias", "talk")} == set(left_out)
    assert "SOME_API_KEY" in left_out["deployment", "far"]
    assert 200 == relay.chat("quick").status
    added(relay, "/deployments/change", 200, name="far", credential=None)
    assert {} == relay.relay.left_out()


def test_additions_stand_beside_the_models_of_the_environment(tmp_path):
    """Without deployments in a file, what the environment offers stays, and aliases may name it."""
    relay = InProcess(tmp_path, "", environ={"OPENAI_API_KEY": "sk-1"})
    try:
        added(relay, "/deployments", name="quick", **PRICED)
        added(relay, "/aliases", name="best", deployments=["openai/o3", "quick"])
        found = by_name(relay)
        assert ("environment", "added", "built in") == tuple(
            found[name]["source"] for name in ("openai/o3", "quick", "sim/o3")
        )
        assert ["openai/o3", "quick"] == by_name(relay, "/aliases")["best"]["deployments"]
    finally:
        relay.close()


def test_settings_may_forbid_additions(tmp_path):
    """`upstream.editable = false`: nothing can be added, and what was is not used."""
    relay = InProcess(tmp_path)
    added(relay, "/deployments", name="quick", **PRICED)
    relay.config.write_text(relay.config.read_text() + "\n[upstream]\neditable = false\n")
    relay.run(relay.relay.reload())
    assert 404 == relay.chat("quick").status
    error = refused(relay, name="other", **PRICED)
    assert "upstream.editable" in error["message"]
    relay.close()


def test_the_export_is_a_settings_file(relay, tmp_path):
    """What was added, taken into a file, offers the same."""
    added(relay, "/deployments", **{**ELSEWHERE, "headers": ["X-A: b c"], "rpm": 9, "weight": 3})
    added(relay, "/deployments", name="quick", **PRICED)
    added(relay, "/aliases", name="a.b/c", deployments=["far", "quick"], hedging=True)
    text = relay.admin.get("/additions/export").text
    assert 2 == len(tomllib.loads(text)["deployments"])
    path = tmp_path / "exported.toml"
    path.write_text(text)
    settings, live = load(path, ENVIRON), relay.relay.live.settings
    assert settings.deployments == live.deployments[-2:]
    assert dict(settings.aliases) == {"a.b/c": live.aliases["a.b/c"]}
    assert 3 == len(relay.admin.get("/additions/export", params={"format": "json"}).json()["data"])


def test_a_reload_keeps_what_was_added_and_an_addition_what_is_in_force(relay):
    """A file that was edited, and is wrong, keeps nobody from adding."""
    added(relay, "/deployments", name="quick", **PRICED)
    relay.run(relay.relay.reload())
    assert "quick" in by_name(relay)
    relay.config.write_text("[server\n")
    added(relay, "/deployments", name="other", **PRICED)
    assert {"quick", "other", "fast"} <= set(by_name(relay))


def test_a_trial_asks_this_deployment_alone(relay):
    """And says what was wrong, if it was."""
    added(relay, "/deployments", name="quick", **PRICED)
    good = relay.admin.post("/deployments/test", json={"name": "quick", "key": "first"}).json()
    assert (200, None) == (good["status"], good["error"])
    bad = relay.admin.post("/deployments/test", json={"name": "broken", "key": "first"}).json()
    assert (400, True) == (bad["status"], bool(bad["error"]))


def test_commands_do_the_same_with_and_without_a_relay(tmp_path):
    """Also over a folder that no relay runs on."""
    relay = InProcess(tmp_path)
    relay.cli(
        "deployments", "create", "quick", "--provider", "simulator",
        "--upstream-model", "o3-mini", "--price-input", "1", "--price-output", "2",
    )  # fmt: skip
    relay.cli("aliases", "create", "talk", "--deployment", "quick", "--hedging")
    relay.cli("aliases", "update", "talk", "--no-hedging", "--deployment", "fast")
    assert ["fast"] == by_name(relay, "/aliases")["talk"]["deployments"]
    assert 0 == relay.command("deployments", "test", "quick", "--key", "first").returncode
    data = str(relay.data)
    relay.close()
    config = {"MERINO_CONFIG": str(relay.config)}
    done = run_command("aliases", "remove", "talk", "--data", data, environ=config)
    assert (0, "removed talk\n") == (done.returncode, done.stdout), done.stderr
    done = run_command("deployments", "export", "--data", data, environ=config)
    assert ["quick"] == [each["name"] for each in tomllib.loads(done.stdout)["deployments"]]


def test_who_added_what_is_in_the_audit_log(relay):
    """With what was said, and references as they are."""
    added(relay, "/deployments", **ELSEWHERE)
    [line] = relay.run(relay.store.audit.lines(limit=1)).items
    assert ("create_deployment", "far") == (line.action, line.target)
    assert "credential=env:SOME_API_KEY" in line.details


def test_everything_of_a_table_can_be_said_of_an_addition():
    """A setting that deployments or aliases get is one of the operation's, too, or has a reason."""
    not_said = {"name", "ca_file"}  # the operation's own; a file of the relay's machine
    for kind, body in ((DeploymentSettings, DeploymentTerms), (AliasSettings, AliasChange)):
        said = {place_of(field)[0] for field in body.__struct_fields__ if field != "name"}
        assert said == {each.name for each in fields(kind)} - not_said
