"""Our clients take and hand on every argument as the openai package has it."""

from __future__ import annotations

import inspect
from importlib import import_module
from typing import Any

import openai
import pytest

from merino.client.answers import is_retryable, retry_after_s
from merino.client.clients import AsyncOpenAI, OpenAI
from merino.client.engine import Attempt, Engine
from merino.client.policy import ClientPolicy, Endpoint
from merino.wire.retry_after import LONGEST_S

_http: Any = import_module(openai.DefaultHttpxClient.__mro__[1].__module__.partition(".")[0])
PAIRS = pytest.mark.parametrize(
    ("ours", "theirs"), [(OpenAI, openai.OpenAI), (AsyncOpenAI, openai.AsyncOpenAI)]
)
KINDS = pytest.mark.parametrize("ours", [OpenAI, AsyncOpenAI])
has_residency = "data_residency" in inspect.signature(openai.OpenAI).parameters
RESIDENCY = pytest.mark.skipif(not has_residency, reason="the package's version knows no regions")


@pytest.fixture(autouse=True)
def _no_variables(monkeypatch) -> None:
    for name in ("MERINO_API_KEY", "MERINO_BASE_URL", "OPENAI_API_KEY", "OPENAI_BASE_URL"):
        monkeypatch.delenv(name, raising=False)


@PAIRS
@pytest.mark.parametrize("name", ["__init__", "copy", "with_options"])
def test_every_argument_is_told(ours, theirs, name) -> None:
    """Signature and annotations show the package's arguments, and ours after them."""
    expected = [
        *inspect.signature(getattr(theirs, name)).parameters,
        "policy",
        "fallbacks",
        "sinks",
    ]
    assert expected == list(inspect.signature(getattr(ours, name)).parameters)
    assert set(getattr(theirs, name).__annotations__) <= set(getattr(ours, name).__annotations__)


@RESIDENCY
@KINDS
def test_a_region_without_a_base_url(ours, monkeypatch) -> None:
    """A region is no conflict with the base URL of a variable, nor with what a copy inherits."""
    monkeypatch.setenv("MERINO_BASE_URL", "http://relay/v1")
    client = ours(api_key="k", data_residency="eu")
    assert "https://eu.api.openai.com/v1/" == str(client.base_url)
    first = ours(api_key="k")
    copied = first.copy(data_residency="us")
    assert "https://us.api.openai.com/v1/" == str(copied.base_url)
    assert "http://relay/v1/" == str(first.base_url)


@RESIDENCY
@KINDS
@pytest.mark.parametrize("base_url", [None, "http://relay/v1"])
def test_a_region_and_a_base_url(ours, base_url) -> None:
    """What was said is handed on, `None` too: the package refuses it beside a region."""
    with pytest.raises(ValueError, match="mutually exclusive"):
        ours(api_key="k", data_residency="eu", base_url=base_url)
    with pytest.raises(ValueError, match="mutually exclusive"):
        ours(api_key="k").copy(data_residency="eu", base_url=base_url)


@KINDS
def test_no_base_url_is_the_variables(ours, monkeypatch) -> None:
    """`None` alone is as if nothing were said, when a client is made and when it is copied."""
    monkeypatch.setenv("MERINO_BASE_URL", "http://relay/v1")
    client = ours(api_key="k", base_url=None)
    monkeypatch.setenv("MERINO_BASE_URL", "http://later/v1")
    found = [str(each.base_url) for each in (client, client.copy(), client.copy(base_url=None))]
    assert 3 * ["http://relay/v1/"] == found


@pytest.mark.parametrize("removed", ["nowhere", "client", "request"])
def test_a_removed_idempotency_key_stays_out(removed) -> None:
    """One key for all attempts of a call, and none where the caller took the header out."""
    seen: list[str | None] = []

    def answer(request: Any) -> Any:
        seen.append(request.headers.get("idempotency-key"))
        return _http.Response(500 if len(seen) == 1 else 200, json={})

    headers: Any = {"IDEMPOTENCY-key": openai.Omit()}
    with OpenAI(
        api_key="k",
        base_url="http://relay/v1",
        policy=ClientPolicy(backoff_base_s=0.0),
        default_headers=headers if removed == "client" else None,
        http_client=_http.Client(transport=_http.MockTransport(answer)),
    ) as client:
        options: Any = {"headers": headers} if removed == "request" else {}
        client.post("/anything", cast_to=object, body={}, options=options)
    assert 2 == len(seen)
    assert 1 == len(set(seen))
    assert (removed != "nowhere") == (seen[0] is None)


@pytest.mark.parametrize("name", ["retry-after", "retry-after-ms"])
@pytest.mark.parametrize(
    ("value", "is_tried_again"),
    [("1e999", False), ("+9e400", False), ("9" * 400, False), ("inf", True), ("-1e999", True)],
)
def test_a_wait_beyond_any_number(name, value, is_tried_again) -> None:
    """A number too large for a float is a wait nobody waits for; `inf` is no number, and not told."""
    headers = {name: value, "x-should-retry": "true"}
    assert (None if is_tried_again else LONGEST_S) == retry_after_s(headers)
    engine = Engine([Endpoint("http://a/v1", "a")], ClientPolicy(), clock=lambda: 1000.0)
    call = engine.call(b"{}")
    attempt = engine.attempt(call)
    assert isinstance(attempt, Attempt)
    assert is_retryable(401, headers)
    assert is_tried_again == (engine.answered(call, attempt, 401, headers) is not None)


@pytest.mark.skipif(not hasattr(openai.OpenAI, "_send_request"), reason="not of this version")
def test_an_error_while_credentials_are_exchanged_is_the_answer(monkeypatch) -> None:
    """What the package raises while it sends was tried there, and is not tried again; a connection
    that breaks is."""
    asked: list[str] = []

    def answer(request: Any) -> Any:
        asked.append("endpoint")
        raise _http.ConnectError("gone", request=request)

    def exchange(self: Any, request: Any, **given: Any) -> Any:
        asked.append("exchange")
        raise openai.APIConnectionError(request=request)

    http_client = _http.Client(transport=_http.MockTransport(answer))
    policy = ClientPolicy(backoff_base_s=0.0)
    with OpenAI(
        api_key="k", base_url="http://relay/v1", policy=policy, http_client=http_client
    ) as client:
        with pytest.raises(openai.APIConnectionError):
            client.models.list()
        monkeypatch.setattr(openai.OpenAI, "_send_request", exchange)
        with pytest.raises(openai.APIConnectionError):
            client.models.list()
    assert [*3 * ["endpoint"], "exchange"] == asked
