"""What vendors' refusals are taken to be about: this call, or the deployment."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from merino.gateway.verdicts import Sent, judge, judge_answer

SENT = Sent(
    b'{"model":"m","messages":[{"role":"user","content":"Tell me a story."}],'
    b'"input":[{"type":"item_reference","id":"rs_0a1b2c"}]}',
    12,
)


def openai(message: str, kind: str = "invalid_request_error", code=None, param=None) -> dict:
    return {"error": {"message": message, "type": kind, "param": param, "code": code}}


def google(status: int, message: str, name: str, *details) -> list:
    error = {"code": status, "message": message, "status": name, "details": list(details)}
    return [{"error": error}]


RETRY = {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "37s"}
NO_ROOM = {b"x-ratelimit-remaining-tokens": b"0", b"x-ratelimit-reset-tokens": b"6s"}
ROOM = {
    b"x-ratelimit-limit-tokens": b"30000",
    b"x-ratelimit-remaining-tokens": b"28000",
    b"x-ratelimit-remaining-requests": b"499",
}

SHAPES = {
    # The vendor and the occasion: status, body, headers, the verdict.
    "openai, wrong parameter": (400, openai("Invalid 'n'", param="n"), {}, "call"),
    "openai, flagged": (400, openai("Rejected", code="content_policy_violation"), {}, "prompt"),
    "openai, invalid_prompt": (400, openai("limited", code="invalid_prompt"), {}, "prompt"),
    "openai, wrong key": (
        401,
        openai("Incorrect API key provided: sk-ab****wxyz", code="invalid_api_key"),
        {},
        "credential",
    ),
    "openai, country": (
        403,
        openai(
            "Country, region, or territory not supported",
            "request_forbidden",
            "unsupported_country_region_territory",
        ),
        {},
        "credential",
    ),
    "openai, model not of this project": (
        403,
        openai("Project `p` does not have access to model `m`", code="model_not_found"),
        {},
        "gone",
    ),
    "openai, retired": (404, openai("No model `m`", code="model_not_found"), {}, "gone"),
    "openai, an item of the caller's": (
        404,
        openai("Item with id 'rs_0a1b2c' not found."),
        {},
        "call",
    ),
    "anybody, an answer that was not sent": (404, openai("No resp_0000 here"), {}, "gone"),
    "openai, a file of the caller's": (404, openai("No such file", param="file_id"), {}, "call"),
    "openai, quota": (
        429,
        openai("Quota.", "insufficient_quota", "insufficient_quota"),
        {},
        "credit",
    ),
    "google, prepaid credit gone": (
        429,
        {
            "error": {
                "code": 429,
                "status": "RESOURCE_EXHAUSTED",
                "message": "Your prepayment credits are depleted. Please go to AI Studio.",
            }
        },
        {},
        "credit",
    ),
    "google, minute full": (
        429,
        {
            "error": {
                "code": 429,
                "status": "RESOURCE_EXHAUSTED",
                "message": "You exceeded your "
                "current quota, please check your plan and billing details.",
            }
        },
        {},
        "throttled",
    ),
    "aws, throttled with 400": (
        400,
        {"__type": "ThrottlingException", "message": "Too many requests"},
        {},
        "throttled",
    ),
    "groq, flex capacity": (
        498,
        {"error": {"message": "capacity", "type": "capacity"}},
        {},
        "again",
    ),
    "tgi, generation failed": (424, {"error": "Request failed", "error_type": "gen"}, {}, "again"),
    "openai, minute full": (
        429,
        openai(
            "Limit 30000, Used 28000, Requested 5000. Please try again in 6s.",
            "tokens",
            "rate_limit_exceeded",
        ),
        NO_ROOM,
        "throttled",
    ),
    "openai, too large": (
        429,
        openai("Limit 30000, Requested 34000.", "tokens", "rate_limit_exceeded"),
        ROOM,
        "too_large",
    ),
    "openai, headers leave room": (429, openai("Rate limit", "requests"), ROOM, "too_large"),
    "openai, overloaded": (429, openai("The engine is overloaded"), ROOM, "throttled"),
    "openai, told when": (429, openai("x", "tokens"), {**ROOM, b"retry-after": b"9"}, "throttled"),
    "openai, no word": (429, {}, {}, "throttled"),
    "azure, content filter": (
        400,
        {
            "error": {
                "code": "content_filter",
                "message": "The response was filtered",
                "innererror": {"code": "ResponsibleAIPolicyViolation"},
            }
        },
        {},
        "prompt",
    ),
    "azure, throttled": (
        429,
        {"error": {"code": "RateLimitReached", "message": "Please retry after 17 seconds."}},
        {},
        "throttled",
    ),
    "azure, no deployment": (404, {"error": {"code": "DeploymentNotFound"}}, {}, "gone"),
    "openrouter, flagged": (
        403,
        {"error": {"code": 403, "message": "no", "metadata": {"flagged_input": "…"}}},
        {},
        "prompt",
    ),
    "openrouter, too dear": (
        402,
        {"error": {"code": 402, "message": "Requires more credits, or fewer max_tokens."}},
        {},
        "too_dear",
    ),
    "openrouter, empty": (402, {"error": {"message": "Insufficient credits"}}, {}, "credit"),
    "openrouter, key disabled": (401, {"error": {"message": "User not found."}}, {}, "credential"),
    "xai, flagged": (
        403,
        {"code": "permission-denied", "error": "Content violates usage guidelines."},
        {},
        "prompt",
    ),
    "xai, not entitled": (
        403,
        {"code": "permission-denied", "error": "Access to the chat endpoint is denied"},
        {},
        "credential",
    ),
    "xai, wrong key with 400": (
        400,
        {"error": "Incorrect API key provided: xa***"},
        {},
        "credential",
    ),
    "fireworks, unpaid": (
        412,
        {
            "error": {
                "message": "Account acme-7 is suspended, possibly due to reaching the monthly "
                "spending limit or failure to pay past invoices."
            }
        },
        {},
        "credit",
    ),
    "a suspended account under another status": (
        412,
        {"error": {"message": "Your account has been suspended."}},
        {},
        "credential",
    ),
    "a condition of the call's own": (
        412,
        {"error": {"message": "If-Match does not hold."}},
        {},
        "call",
    ),
    "deepseek, empty": (402, {"error": {"message": "Insufficient Balance"}}, {}, "credit"),
    "deepseek, no model": (400, {"error": {"message": "Model Not Exist"}}, {}, "gone"),
    "anthropic, credit with 400": (
        400,
        {"error": {"type": "invalid_request_error", "message": "Your credit balance is too low"}},
        {},
        "credit",
    ),
    "anthropic, permission": (
        403,
        {"error": {"type": "permission_error", "message": "Your API key does not have permission"}},
        {},
        "credential",
    ),
    "anthropic, overloaded": (529, {"error": {"type": "overloaded_error"}}, {}, "failed"),
    "gemini, wrong argument": (400, google(400, "temperature", "INVALID_ARGUMENT"), {}, "call"),
    "gemini, wrong key": (
        400,
        google(400, "Please pass another.", "INVALID_ARGUMENT", {"reason": "API_KEY_INVALID"}),
        {},
        "credential",
    ),
    "gemini, location": (
        400,
        google(400, "User location is not supported for the API use.", "FAILED_PRECONDITION"),
        {},
        "credential",
    ),
    "gemini, exhausted": (
        429,
        google(429, "Quota; check your plan and billing.", "RESOURCE_EXHAUSTED", RETRY),
        {},
        "throttled",
    ),
    "gemini, retired": (404, google(404, "models/m is not found", "NOT_FOUND"), {}, "gone"),
    "mistral, 422": (
        422,
        {"object": "error", "message": {"detail": [{"loc": ["body", "n"], "msg": "no"}]}},
        {},
        "call",
    ),
    "mistral, model": (400, {"message": "Invalid model: m", "code": "1500"}, {}, "gone"),
    "groq, 413": (413, openai("Too large", "tokens", "rate_limit_exceeded"), {}, "too_large"),
    "groq, decommissioned": (400, openai("gone", code="model_decommissioned"), {}, "gone"),
    "groq, restricted": (400, openai("no", code="organization_restricted"), {}, "credential"),
    "nginx, 413": (413, "<html>413 Request Entity Too Large</html>", {}, "call"),
    "nginx, 403": (403, "<html>403 Forbidden</html>", {}, "denied"),
    "cloudflare, 403": (403, "<html>Attention Required! | Cloudflare</html>", {}, "denied"),
    "vllm, context": (
        400,
        {"object": "error", "message": "maximum context length is 4096 tokens", "code": 400},
        {},
        "call",
    ),
    "vllm, model": (
        404,
        {"object": "error", "message": "m does not exist.", "code": 404},
        {},
        "gone",
    ),
    "bedrock, access": (
        403,
        {"__type": "AccessDeniedException", "message": "You don't have access to the model"},
        {},
        "credential",
    ),
    "bedrock, token": (
        403,
        {"message": "The security token included in the request is invalid."},
        {},
        "credential",
    ),
    "moonshot, empty": (
        429,
        {"error": {"type": "exceeded_current_quota_error", "message": "suspended"}},
        {},
        "credit",
    ),
    "together, too long with 403": (
        403,
        {"error": {"message": "Input token count plus max_tokens exceeds"}},
        {},
        "too_large",
    ),
    "dashscope, inspected": (400, openai("x", code="data_inspection_failed"), {}, "prompt"),
    "dashscope, arrears": (400, openai("x", code="Arrearage"), {}, "credit"),
    "anybody, account closed for what was asked": (
        403,
        {"error": "Your account was suspended for violating our usage policies"},
        {},
        "credential",
    ),
    "anybody, 402 without a word": (402, {}, {}, "denied"),
    "anybody, 405": (405, {"detail": "Method Not Allowed"}, {}, "gone"),
    "anybody, 410": (410, {}, {}, "gone"),
    "anybody, 408": (408, {}, {}, "again"),
    "anybody, 451": (451, {}, {}, "prompt"),
    "anybody, 418": (418, {}, {}, "call"),
    "anybody, 502": (502, "Bad Gateway", {}, "failed"),
}


def raw(body) -> bytes:
    return body.encode() if isinstance(body, str) else json.dumps(body).encode()


@pytest.mark.parametrize("name", SHAPES)
def test_what_vendors_refuse(name) -> None:
    """Each vendor's refusal is judged by all that it says, and not by its status alone."""
    status, body, headers, verdict = SHAPES[name]
    assert verdict == judge(status, headers.items(), raw(body), SENT).verdict


IN_ANSWERS = {
    "openrouter": ({"error": {"code": 400, "message": "Provider returned error"}}, 400, "call"),
    "digits as text": ({"error": {"code": "429", "message": "slow down"}}, 429, "throttled"),
    "by name": (openai("x", "rate_limit_error"), 429, "throttled"),
    "quota": (openai("x", "insufficient_quota", "insufficient_quota"), 429, "credit"),
    "key": (openai("x", "authentication_error"), 401, "credential"),
    "filter": (openai("x", code="content_filter"), 400, "prompt"),
    "vllm": (
        {"object": "error", "message": "x", "type": "BadRequestError", "code": 400},
        400,
        "call",
    ),
    "google": (google(404, "no model", "NOT_FOUND")[0], 404, "gone"),
    "minimax": ({"base_resp": {"status_code": 1008, "status_msg": "no"}}, 402, "denied"),
    "minimax, said": (
        {"base_resp": {"status_code": 1008, "status_msg": "insufficient balance"}},
        402,
        "credit",
    ),
}


@pytest.mark.parametrize("name", IN_ANSWERS)
def test_an_error_inside_a_200_is_what_its_status_would_have_been(name) -> None:
    """As a number, a number in a text, or a name that vendors use for one."""
    error, status, verdict = IN_ANSWERS[name]
    found = judge_answer(error, SENT)
    assert found is not None
    assert (status, verdict) == (found.status, found.verdict)


@pytest.mark.parametrize("error", [{"error": "broken"}, {"error": {"code": 7}}, {}, [], None])
def test_an_error_that_names_no_status_is_not_given_one(error) -> None:
    """It is the upstream's fault then, as an answer that is none."""
    assert None is judge_answer(error, SENT)


@pytest.mark.parametrize(
    ("body", "headers", "wait_s"),
    [
        (google(429, "x", "RESOURCE_EXHAUSTED", RETRY), {}, 37.0),
        (openai("Please try again in 6m0s."), {}, 360.0),
        (openai("Please try again in 20ms."), {}, 0.02),
        (openai("Please retry in 58.5s."), {}, 58.5),
        (openai("Retry after 17 seconds"), {}, 17.0),
        ({"error": {"message": "x", "retry_after": 4}}, {}, 4.0),
        (google(429, "x", "RESOURCE_EXHAUSTED", RETRY), {b"retry-after": b"5"}, 5.0),
        (openai("x"), NO_ROOM, 6.0),
        (openai("x"), {}, None),
    ],
)
def test_how_long_to_wait_is_read_wherever_it_is_told(body, headers, wait_s) -> None:
    """In a header, in Google's details, or in a sentence."""
    found = judge(429, headers.items(), raw(body), SENT)
    assert ("throttled", wait_s) == (found.verdict, found.retry_after_s)


WORDS = [
    "API key not valid",
    "Incorrect API key provided",
    "your credit balance is too low",
    "insufficient balance",
    "api_key_invalid",
    "Your account has been suspended",
    "check your plan and billing",
    "You do not have access to this model",
]


@given(
    st.sampled_from(WORDS),
    st.sampled_from([400, 402, 403, 422, 429]),
    st.booleans(),
    st.sampled_from(["Invalid value: '{}'.", "{} is not one of 'low', 'high'", "{}"]),
)
def test_what_a_caller_wrote_is_no_evidence(words, status, is_escaped, shape) -> None:
    """A refusal that quotes the call shuts no deployment, whatever the call says and however it is
    written; the same words of the upstream's own do."""
    text = json.dumps(words)
    if is_escaped:
        text = '"' + "".join(f"\\u{ord(each):04x}" for each in words) + '"'
    body = raw(openai(shape.format(words)))
    quoted = Sent(b'{"model":"m","messages":[{"content":%b}]}' % text.encode(), 5)
    verdict = judge(status, (), body, quoted).verdict
    assert verdict not in {"credential", "credit"}


@given(st.binary(max_size=300), st.integers(400, 999), st.dictionaries(st.binary(), st.binary()))
def test_anything_can_be_judged(body, status, headers) -> None:
    """Whatever comes, there is a verdict, the status stays, and a wait is never negative."""
    found = judge(status, headers.items(), body, SENT)
    assert status == found.status
    assert (found.retry_after_s or 0) >= 0


def test_deep_and_long_bodies_are_judged_in_bounds() -> None:
    """Nesting and length are the upstream's to choose, not the relay's to suffer from."""
    deep = b'{"error":' + b"[" * 400 + b"]" * 400 + b"}"
    assert "call" == judge(400, (), deep, SENT).verdict
    long = raw(openai("the api key " * 20_000))
    assert "call" == judge(400, (), long, SENT).verdict
