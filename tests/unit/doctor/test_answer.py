"""What answers mean."""

from __future__ import annotations

import json
from email.utils import formatdate

import pytest

from merino.doctor.alias import check_alias, names_of
from merino.doctor.answer import (
    check_clock,
    check_greeting,
    check_models_answer,
    is_api,
    is_merino,
    refused_by_limit,
)
from merino.doctor.asking import Answer, NoAnswer
from merino.doctor.credential import judged
from merino.doctor.parameters import check_probe

URL = "http://relay/v1/models"
NOW_S = 1_800_000_000.0


def answer(status: int = 200, body: object = b"", **headers: str) -> Answer:
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    names = {name.replace("_", "-"): value for name, value in headers.items()}
    return Answer(status, names, raw, NOW_S, NOW_S + 0.5)


def error(code: str, message: str = "no", param: str | None = None) -> dict[str, object]:
    return {"error": {"message": message, "type": "t", "param": param, "code": code}}


@pytest.mark.parametrize(
    ("ahead_s", "severity"),
    [
        (0, "ok"),
        (-1, "ok"),
        (29, "ok"),
        (60, "warning"),
        (-60, "warning"),
        (900, "problem"),
        (-900, "problem"),
    ],
)
def test_clocks_are_compared(ahead_s, severity) -> None:
    """Up to 30 s is fine, above 5 min is a problem."""
    (found,) = check_clock(answer(date=formatdate(NOW_S + ahead_s, usegmt=True)))

    assert ("clock-skew", severity) == (found.id, found.severity)


def test_a_server_without_a_clock_says_nothing() -> None:
    """No Date header, or none that can be read, is no finding."""
    assert [] == check_clock(answer())
    assert [] == check_clock(answer(date="soon"))


def test_a_relay_is_known_by_its_answer_to_a_stranger() -> None:
    """A request without a key tells whom a key would be sent to."""
    assert is_merino(answer(401, error("missing_api_key")))
    assert not is_merino(answer(401, error("invalid_api_key")))
    assert is_api(answer(401))
    assert is_api(answer(200, {"data": []}))
    assert not is_api(answer(200, b"<html>"))


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (answer(401), []),
        (NoAnswer("Server disconnected"), ["answer"]),
        (answer(404, b"<html>nginx</html>"), ["answer"]),
        (answer(200, b"<html>router</html>"), ["answer"]),
        (answer(302, location="https://relay/"), ["answer"]),
        (answer(503, error("shutting_down")), ["answer"]),
        (answer(407), ["proxy"]),
        (
            answer(400, b"The plain HTTP request was sent to HTTPS port"),
            ["scheme-mismatch"],
        ),
    ],
)
def test_who_answers(given, expected) -> None:
    """Only an OpenAI-compatible API passes."""
    assert expected == [each.id for each in check_greeting(given, URL)]


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (answer(200, {"data": []}), ("key", "ok")),
        (answer(401, error("invalid_api_key")), ("key", "problem")),
        (answer(401, error("key_disabled")), ("key-disabled", "problem")),
        (answer(401, error("key_expired")), ("key-expired", "problem")),
        (answer(429, error("rate_limit_exceeded")), ("limit-reached", "problem")),
        (answer(429, error("insufficient_quota")), ("credit-used-up", "problem")),
        (answer(500), ("answer", "problem")),
        (NoAnswer("timeout", is_timeout=True), ("answer", "problem")),
    ],
)
def test_what_the_server_thinks_of_the_key(given, expected) -> None:
    """Each of the relay's codes has its own finding."""
    (found,) = check_models_answer(given, URL)

    assert expected == (found.id, found.severity)


def test_how_long_to_wait_is_passed_on() -> None:
    """Retry-After stands in the finding."""
    assert "again in 7 s" in refused_by_limit(answer(429, error("x"), retry_after="7")).seen


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (answer(200), [("parameter-refused", "ok"), ("answer", "ok")]),
        (
            answer(200, x_merino_adjusted="max_tokens->max_completion_tokens, temperature removed"),
            [("parameter-refused", "warning"), ("answer", "ok")],
        ),
        (
            answer(200, x_merino_adjusted="carried over to /v1/responses, max_tokens=9 (balance)"),
            [("parameter-refused", "ok"), ("answer", "ok")],
        ),
        (
            answer(200, x_merino_adjusted="max_tokens=9 (spend cap)"),
            [("parameter-refused", "ok"), ("answer", "ok")],
        ),
        (
            answer(400, error("unsupported_parameter", param="max_tokens")),
            [("parameter-refused", "problem")],
        ),
        (answer(400, error("model_not_priced")), [("price-missing", "problem")]),
        (answer(400, error("invalid_json")), [("answer", "problem")]),
        (answer(404, error("model_not_found")), [("alias-unknown", "problem")]),
        (answer(429, error("insufficient_quota")), [("credit-used-up", "problem")]),
        (answer(502, error("upstream_credential_refused")), [("credential-rejected", "problem")]),
        (answer(504, error("upstream_timeout")), [("upstream-unreachable", "problem")]),
        (NoAnswer("no answer within 1 s", is_timeout=True), [("answer", "problem")]),
    ],
)
def test_what_came_of_the_one_call(given, expected) -> None:
    """Whatever a call can end with says what is wrong."""
    assert expected == [(each.id, each.severity) for each in check_probe(given, "o3")]


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (answer(200, {"data": []}), ("credential-rejected", "ok")),
        (answer(404), ("upstream-unreachable", "ok")),
        (answer(401, error("invalid_api_key")), ("credential-rejected", "problem")),
        (answer(403), ("credential-rejected", "problem")),
        (answer(500), ("upstream-unreachable", "problem")),
        (NoAnswer("refused"), ("upstream-unreachable", "problem")),
    ],
)
def test_what_a_provider_thinks_of_the_credential(given, expected) -> None:
    """A list of models, or none, is fine; a refusal and silence are not."""
    found = judged(given, "https://provider/v1 (deployment x)")

    assert expected == (found.id, found.severity)


@pytest.mark.parametrize(
    ("model", "expected"),
    [
        ("o3-mini", None),
        ("O3-Mini", "Did you mean o3-mini"),
        ("openai/o4", "Did you mean o4"),
        ("o3-mni", "Did you mean o3-mini"),
        ("claude-sonnet", "There are: o3, o3-mini, o4, gpt-4o."),
    ],
)
def test_the_nearest_names_are_offered(model, expected) -> None:
    """The same name but for case or provider comes first, then similar ones."""
    names = names_of(
        answer(200, {"data": [{"id": name} for name in ("o3", "o3-mini", "o4", "gpt-4o")]})
    )
    (found,) = check_alias(model, names)

    assert ("alias-unknown", "ok" if expected is None else "problem") == (found.id, found.severity)
    assert found.mend.startswith(expected or "")


def test_a_key_that_may_call_nothing_is_told_so() -> None:
    """An empty or unreadable list names nobody."""
    assert [] == names_of(answer(200, b"<html>"))
    assert "may call no model" in check_alias("o3", [])[0].mend
