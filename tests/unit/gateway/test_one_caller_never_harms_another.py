"""What one caller's calls are refused with keeps no other caller from a deployment."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.lengths import examples
from tests.unit.gateway.test_attempts import KEY, QUICK, Answer, World

from merino.domain.deployment import Deployment
from merino.domain.errors import NoDeploymentAvailable, UpstreamBroken, UpstreamRefused
from merino.gateway.whole_answer import WholeAnswer
from merino.resilience.breaker import BreakerPolicy

OTHER = replace(KEY, id="k2", account_id="b")


def refused(http_status: int, message: str = "", headers=(), **error) -> Answer:
    body = {"error": {"message": message, **error}} if message or error else {}
    return Answer(http_status, json.dumps(body).encode(), headers)


FLAGGED = refused(403, "Your input was flagged by moderation.")
TOO_DEAR = refused(402, "You can only afford 2343 tokens.")
TOO_LARGE = refused(429, "Requested 34000.", type="tokens")
NO_WORD = refused(403)
GONE = refused(404, "no such model", code="model_not_found")
EMPTY = refused(429, "Quota.", type="insufficient_quota", code="insufficient_quota")
NO_KEY = refused(403, "The API key is invalid.")

CALLS_OWN = {
    "flagged": FLAGGED,
    "too dear": TOO_DEAR,
    "too large": TOO_LARGE,
    "no word": NO_WORD,
    "gone": GONE,
    "wrong": refused(400, "no"),
    "unprocessable": refused(422, "no"),
    "unlawful": refused(451, "no"),
    "a quotation": refused(400, "Invalid value: 'api key not valid'."),
}


def call_of(world: World, key, text: str = "api key not valid"):
    body = json.dumps({"model": "o3", "messages": [{"content": text}]}).encode()
    call = world.call(body)
    call.body = body
    call.key = key
    return call


@settings(max_examples=examples(60))
@given(st.lists(st.sampled_from(sorted(CALLS_OWN)), min_size=1, max_size=12))
def test_whatever_one_caller_is_refused_with_others_are_served(names) -> None:
    """Any number of refusals of one caller's calls, of any kind that may be the call's own, leaves
    the deployment to everybody else, at once."""
    world = World("a", a=[*(CALLS_OWN[name] for name in names), 200])
    world.upstreams.plans["a"] = [CALLS_OWN[name] for name in names] + [200, 200]
    for _ in names:
        _, _, error = world.one(call_of(world, KEY))
        assert isinstance(error, UpstreamRefused)
    assert len(names) == len(world.upstreams.asked)  # none of them was sent twice
    call, _, error = world.one(call_of(world, OTHER))
    assert (None, "a") == (error, call.deployment.name)


@pytest.mark.parametrize("name", sorted(set(CALLS_OWN) - {"flagged"}))
def test_the_caller_hears_the_vendors_reason(name) -> None:
    """Status and words of the vendor, in our envelope."""
    world = World("a", a=[CALLS_OWN[name]])
    _, _, error = world.one(call_of(world, KEY))
    assert isinstance(error, UpstreamRefused)
    assert CALLS_OWN[name].status == error.status
    told = json.loads(CALLS_OWN[name].body).get("error", {}).get("message")
    assert (told or f"The upstream answered {error.status}.") == error.message


@pytest.mark.parametrize(
    ("answer", "asked"),
    [
        (FLAGGED, "a"),
        (refused(400, "no"), "a"),
        (TOO_DEAR, "ab"),
        (TOO_LARGE, "ab"),
        (NO_WORD, "ab"),
        (GONE, "ab"),
        (refused(405), "ab"),
        (refused(410), "ab"),
        (EMPTY, "ab"),
        (NO_KEY, "ab"),
    ],
)
def test_who_is_asked_after_a_refusal(answer, asked) -> None:
    """What only this upstream's account or model is the matter of, another one answers; what the
    call says is carried to nobody else."""
    world = World(a=[answer], b=[200])
    world.one()
    assert asked == "".join(world.upstreams.asked)


@pytest.mark.parametrize("answer", [NO_WORD, refused(402), TOO_DEAR])
def test_two_accounts_in_a_row_are_evidence(answer) -> None:
    """A refusal that says nothing is about the deployment if the next account's call fares no
    better; a call that is answered in between says it was not."""
    world = World("a", a=[answer, 200, answer, answer, 200])
    for key in (KEY, OTHER, KEY):
        world.one(call_of(world, key))
    assert "closed" == world.fleet.state_of("a").breaker
    world.one(call_of(world, OTHER))
    assert "open" == world.fleet.state_of("a").breaker
    [trouble] = world.fleet.troubles()
    assert ("a", answer.status) == (trouble.deployment, trouble.status)
    _, _, error = world.one(call_of(world, KEY))
    assert isinstance(error, NoDeploymentAvailable)
    assert "the provider" in error.message


def test_operators_hear_of_refusals_without_a_reason() -> None:
    """Three in a row of one account close nothing, and are worth a look."""
    world = World("a", a=[NO_WORD, NO_WORD, NO_WORD, 200])
    told = []
    for _ in range(4):
        world.one(call_of(world, KEY))
        told.append([each.kind for each in world.fleet.troubles()])
    assert [[], [], ["denied"], []] == told
    assert "closed" == world.fleet.state_of("a").breaker


@pytest.mark.parametrize(
    ("answer", "kind", "code"),
    [
        (EMPTY, "credit", "upstream_credit_exhausted"),
        (refused(402, "Insufficient Balance"), "credit", "upstream_credit_exhausted"),
        (NO_KEY, "credential", "upstream_credential_refused"),
        (refused(401), "credential", "upstream_credential_refused"),
    ],
)
def test_the_operators_own_trouble_is_not_told_as_the_callers(answer, kind, code) -> None:
    """The deployment is left alone and asked once; the caller hears that the operator must act, and
    neither the vendor's code nor its words."""
    world = World("a", a=[answer, 200])
    call, _, error = world.one()
    assert isinstance(error, UpstreamBroken)
    assert (code, 1) == (error.code, len(world.upstreams.asked))
    assert "operator" in error.message
    assert [kind] == [each.kind for each in world.fleet.troubles()]
    assert ("open", answer.status) == (
        world.fleet.state_of("a").breaker,
        world.fleet.troubles()[0].status,
    )
    # What it said is kept for the operator.
    assert (error.said or error.message) == call.attempts[0].message


def test_a_model_that_is_gone_alerts_and_closes_nothing() -> None:
    """Every call goes on being tried there first, so that its return is noticed."""
    world = World(a=[GONE, GONE, 200], b=[200])
    for kinds in (["gone"], ["gone"], []):
        assert world.one()[2] is None
        assert kinds == [each.kind for each in world.fleet.troubles()]
    assert "ababa" == "".join(world.upstreams.asked)


def test_a_wait_told_in_the_body_is_a_rest() -> None:
    """Google's `retryDelay` is what `Retry-After` is to others."""
    details = [{"@type": "…/google.rpc.RetryInfo", "retryDelay": "37s"}]
    answer = refused(429, "Quota.", code=429, status="RESOURCE_EXHAUSTED", details=details)
    world = World(a=[answer, 200], b=[200])
    world.one()
    assert 37 == pytest.approx(world.fleet.state_of("a").usable_in_s)


# -- with status 200 -----------------------------------------------------------------------------


def answered(error) -> tuple[World, object]:
    body = json.dumps(error).encode()
    world = World("a", a=[Answer(200, body)])
    call = world.call()
    _, _, failure = asyncio.run(world.run(call, WholeAnswer(call, 10_000)))
    return world, failure


@pytest.mark.parametrize("code", [400, "422", 403, 413])
def test_a_refusal_inside_a_200_is_the_calls_own(code) -> None:
    """It is passed on with the status it should have had, not tried again, and no failure of the
    deployment."""
    world, error = answered({"error": {"message": "content flagged", "code": code}})
    assert isinstance(error, UpstreamRefused)
    assert (int(code), 1) == (error.status, len(world.upstreams.asked))
    policy = BreakerPolicy()
    for _ in range(policy.outcomes_min):
        answered({"error": {"message": "no", "code": code}})
    assert "closed" == world.fleet.state_of("a").breaker


def test_a_failure_inside_a_200_is_one_of_the_deployment() -> None:
    """An error that does not name a status of the caller's is tried again, and counts."""
    world, error = answered({"error": {"message": "provider failed", "code": 502}})
    assert isinstance(error, UpstreamBroken)
    assert len(world.upstreams.asked) > 1


# -- secrets -------------------------------------------------------------------------------------

SECRET, HEADER = "cr3d-Zq8vLw2mXo91kd", "hdr-Pw7yNb4cTs60qe"


@settings(max_examples=examples(40))
@given(
    st.sampled_from([SECRET, HEADER]),
    st.sampled_from(["message", "code", "param", "type", "status", "detail"]),
    st.sampled_from([200, 400, 401, 402, 403, 404, 409, 422, 429, 500, 503]),
    st.booleans(),
)
def test_no_member_of_no_error_holds_a_secret(secret, member, status, is_nested) -> None:
    """Wherever the upstream puts it, neither the caller nor a record nor an operator's notice gets
    it; the rest of the words stay."""
    error = {"message": "Wrong.", "code": "wrong", member: f"node 7: {secret}!"}
    body = json.dumps({"error": error} if is_nested or status == 200 else error).encode()
    world = World("a", a=[Answer(status, body)])
    deployment = Deployment(
        "a", "openai", "m", credential=SECRET, headers=(("api-key", f"Bearer {HEADER}"),)
    )
    world.alias = replace(world.alias, deployments=(deployment,))
    world.fleet.keep([deployment])
    call = world.call()
    _, _, failure = asyncio.run(world.run(call, WholeAnswer(call, 10_000)))
    kept = [failure.message, failure.code, failure.param, failure.said, str(failure)]
    kept += [
        getattr(failure, "error_type", None),
        repr(call.attempts),
        repr(world.fleet.troubles()),
    ]
    assert not any(secret in str(each) for each in kept)


def test_backoff_is_told_as_such() -> None:
    """Time between attempts in which nobody is asked is no waiting for limits or credit."""
    policy = replace(QUICK, backoff_base_s=0.02, attempts_max=3)
    world = World("a", policy, a=[503, 503, 200])
    call = world.call()
    call.started_at = call.received_at
    error = world.one(call)[2]
    timing = call.timing()
    backoff_ms = sum(each.backoff_ms for each in call.attempts)
    assert (None, 0.0) == (error, call.waited_s)
    assert call.backoff_s * 1000 == pytest.approx(backoff_ms)
    assert backoff_ms > 0
    parts = timing.queue_ms + timing.relay_ms + timing.upstream_ms + backoff_ms
    assert timing.elapsed_ms == pytest.approx(parts)
