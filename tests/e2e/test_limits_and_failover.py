"""Limits, failover, drains and drills as a caller and an operator meet them."""

from __future__ import annotations

import signal
import time

import openai
import pytest

DEPLOYMENT = """
[[deployments]]
name = "{name}"
provider = "simulator"
upstream_model = "{model}"
first_token_timeout_s = 0.5
price = {{ input = 1.0, output = {output_price} }}
"""


def deployments(output_price: str = "1.0", **models: str) -> str:
    return "".join(
        DEPLOYMENT.format(name=name, model=model, output_price=output_price)
        for name, model in models.items()
    )


def ask(http, *, stream: bool = False, headers=None, **fields):
    body = {"model": "o3", "messages": [{"role": "user", "content": "Hello"}], "stream": stream}
    return http.post("/v1/chat/completions", json=body | fields, headers=headers)


def test_limits_of_a_key(start_relay) -> None:
    """A limit set by the CLI holds at once, is told in headers and in the refusal, whose time is
    true, and its end is felt at once too."""
    relay = start_relay()
    relay.cli("keys", "update", "first", "--rpm", "2")
    with relay.http() as http:
        first, second, third = (ask(http, max_completion_tokens=5) for _ in range(3))
        assert [200, 200, 429] == [first.status_code, second.status_code, third.status_code]
        assert ("2", "1") == (
            first.headers["x-ratelimit-limit-requests"],
            first.headers["x-ratelimit-remaining-requests"],
        )
        assert "0" == third.headers["x-ratelimit-remaining-requests"]
        # Also on answers that are no call's.
        for answer in (
            http.get("/v1/models"),
            ask(http, model="no-such-model"),
            ask(http, messages=[]),
            http.get("/v1/nowhere"),
        ):
            assert "0" == answer.headers["x-ratelimit-remaining-requests"], answer.status_code
        assert 29 <= int(third.headers["retry-after"]) <= 30
        assert 29_000 <= int(third.headers["retry-after-ms"]) <= 30_000
        message = third.json()["error"]["message"]
        assert "2 requests per minute of key 'first'" in message
        relay.cli("keys", "update", "first", "--rpm", "none")
        assert 200 == ask(http, max_completion_tokens=5).status_code
    assert 0 == relay.cli("accounts", "show", "default")["balance"]["held_nanos"]


def test_limits_of_an_account(start_relay) -> None:
    """Limits that the CLI sets on an account hold for all its keys at once, above those of the
    file, which count again once its own are taken away; also when they are set while no relay
    runs."""
    relay = start_relay("[limits.accounts.default]\nrpm = 2\n")
    relay.env["MERINO_CONFIG"] = str(relay.config)

    def statuses(http, times: int) -> list[int]:
        answers = [ask(http, max_completion_tokens=5) for _ in range(times)]
        refusals = {each.json()["error"]["message"] for each in answers if each.status_code == 429}
        assert all("of account 'default'" in each for each in refusals)
        return [each.status_code for each in answers]

    with relay.http() as http:
        assert [200, 200, 429] == statuses(http, 3)
        changed = relay.cli("accounts", "update", "default", "--rpm", "1000000", "--weight", "2")
        assert (1_000_000, None, 2.0) == (changed["rpm"], changed["tpm"], changed["weight"])
        assert [200] * 4 == statuses(http, 4)
        changed = relay.cli("accounts", "update", "default", "--rpm", "none", "--weight", "none")
        assert (None, 2) == (changed["rpm"], changed["limits_in_force"]["rpm"])
        assert "2" == ask(http).headers["x-ratelimit-limit-requests"]
        assert 429 == statuses(http, 3)[-1]
        relay.cli("accounts", "create", "--name", "small", "--overdraft", "1", "--rps", "1")
        key = relay.cli("keys", "create", "--account", "small", "--name", "small")["key"]
        headers = {"authorization": f"Bearer {key}"}
        assert "1" == ask(http, headers=headers).headers["x-ratelimit-limit-requests"]
    relay.stop()
    relay.cli("accounts", "update", "default", "--tpm", "9", "--concurrency", "7")
    shown = relay.cli("accounts", "show", "default")
    assert (None, 9, 7) == (shown["rpm"], shown["tpm"], shown["concurrency"])
    assert {"rps": None, "rpm": 2, "tpm": 9, "concurrency": 7, "weight": 1.0} == shown[
        "limits_in_force"
    ]
    relay.start()
    with relay.http() as http:
        refused = ask(http)
        assert (429, "call_exceeds_limit") == (
            refused.status_code,
            refused.json()["error"]["code"],
        )


def test_limits_of_the_file_apply_at_once(start_relay) -> None:
    """New limits of an account, an alias and a deployment in the file hold from the reload on:
    beyond the first two callers are refused, beyond the last the next deployment is asked."""
    aliases = '[aliases.o3]\ndeployments = ["first", "second"]\n'
    base = deployments(first="plain", second="plain")
    relay = start_relay(base + aliases)

    def reload(config: str) -> None:
        told = relay.errors().count("settings reloaded")
        relay.config.write_text(config)
        relay.process.send_signal(signal.SIGHUP)
        deadline = time.monotonic() + 10
        while relay.errors().count("settings reloaded") == told:
            assert time.monotonic() < deadline
            time.sleep(0.01)

    with relay.http() as http:
        assert ["first"] * 3 == [ask(http).headers["x-merino-deployment"] for _ in range(3)]
        reload(
            base.replace("[[deployments]]", "[[deployments]]\nlimits = { rpm = 2 }", 1) + aliases
        )
        assert ["first", "first", "second"] == [
            ask(http).headers["x-merino-deployment"] for _ in range(3)
        ]
        reload(base + aliases + "limits = { rpm = 1 }\n")
        answers = [ask(http) for _ in range(2)]
        assert [200, 429] == [answer.status_code for answer in answers]
        assert "1 requests per minute of alias 'o3'" in answers[1].json()["error"]["message"]
        reload(base + aliases + '[limits.accounts."*"]\nrps = 1\n')
        answers = [ask(http) for _ in range(2)]
        assert [200, 429] == [answer.status_code for answer in answers]
        assert "of account 'default'" in answers[1].json()["error"]["message"]


def test_the_package_waits_as_told(start_relay) -> None:
    """The openai package obeys the refusal and succeeds by itself."""
    relay = start_relay()
    relay.cli("keys", "update", "first", "--rps", "1")
    client = openai.OpenAI(base_url=f"{relay.url}/v1", api_key=relay.key, max_retries=3)
    began = time.monotonic()
    for _ in range(3):
        client.chat.completions.create(
            model="o3", messages=[{"role": "user", "content": "Hi"}], max_completion_tokens=5
        )
    assert time.monotonic() - began > 1.5


def test_waiting_instead_of_refusing(start_relay) -> None:
    """With `limits.wait_s` a call waits for its turn, and says how long it did."""
    relay = start_relay('[limits]\nwait_s = 5.0\n[limits.accounts."*"]\nrps = 2\n')
    with relay.http() as http:
        answers = [ask(http, max_completion_tokens=5) for _ in range(4)]
    assert [200] * 4 == [answer.status_code for answer in answers]
    queued_ms = float(answers[-1].headers["x-merino-overhead-ms"].split("queue=")[1].split(",")[0])
    assert queued_ms > 100


@pytest.mark.parametrize(
    ("first", "second"), [("plain!hang", "plain"), ("plain", "plain"), ("plain!ttft=0.4", "plain")]
)
def test_a_stream_ends_with_who_answered_it(start_relay, first, second) -> None:
    """A head that went out with a sign of life names who was being asked; if another one answers,
    the end of the stream says so, and only then."""
    relay = start_relay(
        deployments(first=first, second=second)
        + '[aliases.o3]\ndeployments = ["first", "second"]\ntimeout_s = 5\n'
        + "[stream]\nkeep_alive_s = 0.1\n"
    )
    with relay.http() as http:
        answer = ask(http, stream=True)
        record = http.get(f"/v1/calls/{answer.headers['x-request-id']}").json()
    assert "first" == answer.headers["x-merino-deployment"]
    lines = answer.text.split("\n")
    assert ["data: [DONE]", "", ""] == lines[-3:]
    ending = [each for each in lines if each.startswith(": x-merino-")]
    assert ending == lines[-3 - len(ending) : -3]
    assert f": x-merino-cost: {record['cost']}" == ending[0]
    if "hang" in first:
        assert ": keep-alive" == lines[0]
        assert "second" == record["deployment"]
        assert [": x-merino-deployment: second", ": x-merino-simulated: true"] == ending[1:]
    else:
        assert "first" == record["deployment"]
        assert [] == ending[1:]


@pytest.mark.parametrize("stream", [False, True])
def test_failover_is_told(start_relay, stream) -> None:
    """A failed and a hanging deployment cost time, not the answer; the header, the record and the
    deployment list tell of them."""
    relay = start_relay(
        deployments(fails="plain!status=500", hangs="plain!hang", good="plain")
        + '[aliases.o3]\ndeployments = ["fails", "hangs", "good"]\ntimeout_s = 5\n'
        + ("" if stream else "[retries]\nattempts_max = 2\n")
    )
    if not stream:
        relay.cli("deployments", "drain", "hangs")
    with relay.http() as http:
        answer = ask(http, stream=stream)
        assert 200 == answer.status_code
        assert "good" == answer.headers["x-merino-deployment"]
        told = answer.headers["x-merino-attempts"]
        assert told.startswith("fails;500;")
        assert told.endswith("good;200")
        assert ("hangs;UpstreamTimedOut;" in told) == stream
        record = http.get(f"/v1/calls/{answer.headers['x-request-id']}").json()
        assert "fails" == record["attempts"][0]["deployment"]
        (first, *_) = relay.cli("calls", "show", record["id"])["attempts"]
        assert ("fail over", "0.00") == (first["reason_for_next"], first["upstream"])
    states = {row["name"]: row["state"] for row in relay.cli("deployments", "list")["data"]}
    assert (not stream, "closed") == (states["hangs"]["drained"], states["good"]["breaker"])


def test_a_whole_answer_that_does_not_come(start_relay) -> None:
    """`answer_timeout_s` is to answers in one piece what `first_token_timeout_s` is to streams: the
    next deployment is asked, and after a few such calls the silent one no more."""
    relay = start_relay(
        deployments(hangs="plain!hang", good="plain").replace(
            "first_token_timeout_s", "answer_timeout_s"
        )
        + '[aliases.o3]\ndeployments = ["hangs", "good"]\n'
    )
    with relay.http() as http:
        told = [ask(http).headers.get("x-merino-attempts", "") for _ in range(6)]
    assert all(each.startswith("hangs;UpstreamTimedOut;") for each in told[:5])
    assert "" == told[5]


def test_outage_and_recovery(start_relay, tmp_path) -> None:
    """A drill takes everything down: callers get a 503 with a time, metrics and the list show open
    breakers, and once it is over calls are answered again."""
    drill = tmp_path / "drill.toml"
    drill.write_text('[[drill]]\ndeployment = "only"\nfault = "status=503"\nfor_s = 3\n')
    relay = start_relay(
        deployments(only="plain")
        + '[aliases.o3]\ndeployments = ["only"]\n'
        + "[breaker]\nopen_s = 0.5\nopen_max_s = 1.0\n[retries]\nattempts_max = 1\n",
        arguments=("--drill", str(drill)),
    )
    with relay.http() as http:
        statuses = [ask(http) for _ in range(8)]
        refused = statuses[-1]
        assert 503 == refused.status_code
        assert "no_deployment_available" == refused.json()["error"]["code"]
        assert int(refused.headers["retry-after"]) >= 1
        assert 'merino_breaker_state{deployment="only"} 2.0' in http.get("/metrics").text
        deadline = time.monotonic() + 15
        while ask(http).status_code != 200:
            assert time.monotonic() < deadline
            time.sleep(0.1)
    (row,) = [row for row in relay.cli("deployments", "list")["data"] if row["name"] == "only"]
    assert "open" in [change["state"] for change in row["state"]["history"]]
    assert "DRILL" in relay.errors()


@pytest.mark.parametrize("stream", [False, True])
def test_simulated_answers_of_a_drill_are_told_and_free(start_relay, tmp_path, stream) -> None:
    """A drilled deployment's simulated answers say that they are, in the header and the record, and
    nobody pays for them, unless the drill says that they are charged."""
    drill = tmp_path / "drill.toml"
    drill.write_text(
        '[[drill]]\ndeployment = "free"\nfault = "output=5"\n'
        '[[drill]]\ndeployment = "paid"\nfault = "output=5"\ncharged = true\n'
    )
    real = DEPLOYMENT.replace('"simulator"', '"openai"\nbase_url = "http://127.0.0.1:9/v1"')
    relay = start_relay(
        "".join(
            real.format(name=name, model="gpt", output_price="1000.0")
            + f'[aliases.{name}]\ndeployments = ["{name}"]\n'
            for name in ("free", "paid")
        ),
        arguments=("--drill", str(drill)),
    )
    before = relay.balance_nanos()
    with relay.http() as http:
        for name, price_id in (("free", "drill"), ("paid", "deployment/paid")):
            answer = ask(http, model=name, stream=stream, max_completion_tokens=9)
            assert (200, "true") == (answer.status_code, answer.headers["x-merino-simulated"])
            call = relay.cli("calls", "show", answer.headers["x-request-id"])
            assert (name, "gpt!output=5", price_id) == (
                call["deployment"],
                call["upstream_model"],
                call["price_id"],
            )
            assert 5 == call["output_tokens"]
            assert (name == "free") == (before == relay.balance_nanos())
            assert (name == "free") == (0 == call["upstream_nanos"])
    assert 0 == relay.cli("accounts", "show", "default")["balance"]["held_nanos"]
    assert [] == relay.cli("ledger", "verify")["differences"]


def test_fallback_keeps_to_the_money(start_relay) -> None:
    """Another alias stands in for one that is down if what the account has covers its price; it is
    billed at its own price."""
    relay = start_relay(
        '[credits]\nstart = "1.00"\n'
        + deployments(fails="plain!status=500")
        + deployments("10.0", dear="plain!input=1000,output=1000")
        + deployments("100000.0", ruinous="plain")
        + '[aliases.o3]\ndeployments = ["fails"]\nfallbacks = ["ruinous", "dear"]\n'
    )
    with relay.http() as http:
        answer = ask(http, max_completion_tokens=1000)
        assert (200, "dear") == (answer.status_code, answer.headers["x-merino-deployment"])
        assert "0.011" == answer.headers["x-merino-cost"]
    assert 1_000_000_000 - 11_000_000 == relay.balance_nanos()


def test_the_callers_patience_is_the_deadline(start_relay) -> None:
    """A caller who says how long they wait gets an answer or an error within that time."""
    relay = start_relay(
        deployments(slow="plain!ttft=30s") + '[aliases.o3]\ndeployments = ["slow"]\n'
    )
    with relay.http() as http:
        for header in ("x-stainless-read-timeout", "x-merino-timeout"):
            began = time.monotonic()
            answer = ask(http, headers={header: "0.6"})
            assert 504 == answer.status_code
            assert time.monotonic() - began < 2.5
        refused = ask(http, headers={"x-merino-timeout": "soon"})
        assert (400, "x-merino-timeout") == (
            refused.status_code,
            refused.json()["error"]["param"],
        )


@pytest.mark.parametrize("busy", [False, True])
def test_a_short_patience_outlasts_a_long_thought(start_relay, busy) -> None:
    """A stream's caller who waits little for the next byte hears comments as often as that takes,
    and gets no silence for a turn in the queue either."""
    relay = start_relay(
        deployments(o3="plain!ttft=2500ms,output=3").replace("timeout_s = 0.5", "timeout_s = 9")
        + "[limits]\nwait_s = 30\n"
    )
    if busy:
        relay.cli("keys", "update", "first", "--rpm", "1")
    client = openai.OpenAI(
        base_url=relay.url + "/v1", api_key=relay.key, timeout=1.0, max_retries=0
    )
    fields = {"model": "o3", "messages": [{"role": "user", "content": "Hello"}], "stream": True}
    chunks = list(client.chat.completions.create(**fields))
    assert "stop" in [choice.finish_reason for chunk in chunks for choice in chunk.choices]
    if busy:
        with pytest.raises(openai.RateLimitError):
            client.chat.completions.create(**fields)


def test_unsupported_parameters(start_relay) -> None:
    """A strict reasoning model gets what it takes, and the caller learns what was changed."""
    relay = start_relay(
        deployments(strict="o3!strict") + '[aliases.o3]\ndeployments = ["strict"]\n'
    )
    with relay.http() as http:
        for _ in range(2):
            answer = ask(http, temperature=0.2, max_completion_tokens=50)
            assert 200 == answer.status_code
            assert "temperature removed" in answer.headers["x-merino-adjusted"]


def test_what_takes_long_is_told_so(start_relay) -> None:
    """Nobody is asked to come back in a minute for what lasts until an operator does something."""
    relay = start_relay(deployments(only="plain") + '[aliases.o3]\ndeployments = ["only"]\n')
    relay.cli("deployments", "drain", "only")
    with relay.http() as http:
        answer = ask(http)
    assert (503, "60", "false") == (
        answer.status_code,
        answer.headers["retry-after"],
        answer.headers["x-should-retry"],
    )


def test_draining_says_when_it_cannot(start_relay) -> None:
    """Unknown names, and no relay to drain: one line and exit code 2 or 1, never a traceback."""
    relay = start_relay()
    unknown = relay.cli("deployments", "drain", "nobody", check=False)
    assert 0 != unknown.returncode
    assert "There is no deployment 'nobody'" in unknown.stderr
    relay.stop()
    offline = relay.cli("deployments", "drain", "sim/o3", check=False)
    assert 0 != offline.returncode
    assert "No relay is running" in offline.stderr


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "one or more [[drill]] tables"),
        ('[[drill]]\ndeployment = "nobody"\nfault = "cut"\n', "there is none of this name"),
        ('[[drill]]\ndeployment = "sim/o3"\nfault = "explode"\n', "Unknown simulator option"),
        ('[[drill]]\ndeployment = "sim/o3"\nfault = "cut"\nshare = 7\n', "share = 7"),
        ('[[drill]]\ndeployment = "sim/o3"\nfault = "cut"\ncharged = 1\n', "charged = 1"),
        ("[[drill", "drill.toml"),
    ],
)
def test_drill_files_are_checked(start_relay, tmp_path, text, said) -> None:
    """A drill that could not run is refused at the start, with the reason."""
    drill = tmp_path / "drill.toml"
    drill.write_text(text)
    with pytest.raises(AssertionError) as caught:
        start_relay(arguments=("--drill", str(drill)))
    assert said in str(caught.value)
    assert "Traceback" not in str(caught.value).partition("errors:")[2]
