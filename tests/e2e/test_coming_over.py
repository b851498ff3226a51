"""A configuration and a database of LiteLLM are imported, and served."""

from __future__ import annotations

import csv
import socket
import subprocess
import sys
import threading

import pytest
from tests.conftest import RelayProcess
from tests.in_process import run_command

CONFIG = """
model_list:
  - model_name: gpt-4o
    litellm_params:
      model: openai/o3-mini
      api_base: {upstream}
      api_key: os.environ/SHOP_KEY
      input_cost_per_token: 0.000001
      output_cost_per_token: 0.000004
  - model_name: other
    litellm_params: {{model: bedrock/titan}}
general_settings: {{master_key: sk-1}}
"""
DUMP = """\
COPY public."LiteLLM_TeamTable" (team_id, team_alias, max_budget, spend) FROM stdin;
t1\tResearch\t100\t37.5
\\.
COPY public."LiteLLM_VerificationToken" (token, key_name, key_alias, team_id, models, max_budget, blocked) FROM stdin;
aaaa\tsk-...aaaa\tci\tt1\t{gpt-4o}\t5\tf
bbbb\tsk-...bbbb\told\tt1\t{}\t\\N\tt
\\.
"""


@pytest.fixture
def upstream():
    """A server with OpenAI's API: the simulator, over a socket."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    process = subprocess.Popen(
        [sys.executable, "-m", "merino.simulator.server", "--port", str(port)],
        stdout=subprocess.DEVNULL,
    )
    try:
        for _ in range(300):
            try:
                socket.create_connection(("127.0.0.1", port), timeout=1).close()
                break
            except OSError:
                threading.Event().wait(0.1)
        yield f"http://127.0.0.1:{port}/v1"
    finally:
        process.terminate()
        process.wait(10)


def test_a_team_goes_on_with_what_is_left(tmp_path, upstream, start_relay) -> None:
    """Its key has a new secret and its old terms, its money is what was left, a repeat makes and
    books nothing twice, and the settings serve its model at the same upstream."""
    relay = start_relay()
    (tmp_path / "config.yaml").write_text(CONFIG.format(upstream=upstream))
    (tmp_path / "dump.sql").write_text(DUMP)
    files = [str(tmp_path / "config.yaml"), str(tmp_path / "dump.sql")]
    settings, mapping = tmp_path / "made.toml", tmp_path / "keys.csv"
    given = [*files, "--settings", str(settings), "--mapping", str(mapping)]

    told = relay.cli("import", "litellm", *given, "--dry-run")
    assert (["Research"], None) == ([each["name"] for each in told["accounts"]], told["made"])
    assert not settings.exists()
    assert ["default"] == [each["name"] for each in relay.cli("accounts", "list")["data"]]

    first = relay.cli("import", "litellm", *given)
    again = relay.cli("import", "litellm", *given)
    assert ({"accounts": ["Research"], "keys": ["ci", "old"]}, []) == (
        first["made"],
        first["there"],
    )
    assert {"accounts": [], "keys": []} == again["made"]
    assert any("bedrock" in line for line in first["left"])
    assert 62_500_000_000 == relay.balance_nanos("Research")
    relay.stop()

    assert 0o600 == mapping.stat().st_mode & 0o777
    with mapping.open() as file:
        keys = {row["key"]: row for row in csv.DictReader(file)}
    assert ["aaaa", "bbbb"] == [row["was"] for row in keys.values()]
    served = RelayProcess(relay.data, settings.read_text(), {"SHOP_KEY": "sk-x"}).start()
    try:
        with served.http() as http:
            body = {"model": "gpt-4o", "messages": [{"role": "user", "content": "hi"}]}
            authorized = {"authorization": f"Bearer {keys['ci']['secret']}"}
            answer = http.post("/v1/chat/completions", json=body, headers=authorized)
            refused = http.post(
                "/v1/chat/completions",
                json=body,
                headers={"authorization": f"Bearer {keys['old']['secret']}"},
            )
        usage = answer.json()["usage"]
        cost = usage["prompt_tokens"] * 1000 + usage["completion_tokens"] * 4000
        assert (200, 401) == (answer.status_code, refused.status_code)
        assert 62_500_000_000 - cost == served.balance_nanos("Research")
    finally:
        served.stop()


def test_settings_that_are_there_are_kept(tmp_path) -> None:
    """What somebody has changed since is not written over, and nothing else is done."""
    config = tmp_path / "config.yaml"
    config.write_text(CONFIG.format(upstream="http://127.0.0.1:9/v1"))
    settings = tmp_path / "made.toml"
    settings.write_text("# mine\n")
    done = run_command("import", "litellm", str(config), "--settings", str(settings))
    assert 2 == done.returncode
    assert f"{settings} is there already" in done.stderr
    assert "# mine\n" == settings.read_text()
