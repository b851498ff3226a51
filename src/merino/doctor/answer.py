"""What a server's answers tell: who it is, whether it knows the key, what time it has."""

from __future__ import annotations

from datetime import UTC
from email.utils import parsedate_to_datetime
from urllib.parse import urlsplit

from merino.doctor.asking import Answer, NoAnswer
from merino.doctor.certificate import explain_tls
from merino.doctor.finding import Finding, FindingId, ok, problem, warning

SKEW_WARNING_S = 30.0
SKEW_PROBLEM_S = 300.0

_WRONG_KEY: dict[str, tuple[FindingId, str]] = {
    "key_disabled": ("key-disabled", "Ask the operator to enable it (`merino keys enable`)."),
    "account_disabled": (
        "key-disabled",
        "Ask the operator to enable its account (`merino accounts update NAME --enable`).",
    ),
    "key_expired": ("key-expired", "Ask the operator for a new key (`merino keys create`)."),
}


def is_merino(answer: Answer) -> bool:
    """Whether the answer to a request without a key is a Merino relay's."""
    return answer.status == 401 and answer.error_code == "missing_api_key"


def is_api(answer: Answer) -> bool:
    """Whether something like OpenAI's, Anthropic's or Gemini's API answered."""
    return answer.status in (401, 403, 429) or (
        answer.status == 200
        and any(isinstance(answer.content.get(name), list) for name in ("data", "models"))
    )


def check_clock(answer: Answer) -> list[Finding]:
    """Compare the Date header with the clock here."""
    try:
        moment = parsedate_to_datetime(answer.headers.get("date", ""))
        if moment.tzinfo is None:
            moment = moment.replace(tzinfo=UTC)
        theirs_s = moment.timestamp()
    except (ValueError, OverflowError):
        return []  # no date, or one of a year that does not exist
    # The header has whole seconds, and was written between asking and answering.
    ahead_s = max(0.0, theirs_s - answer.answered_at_s)
    behind_s = max(0.0, answer.asked_at_s - theirs_s - 1.0)
    skew_s = max(ahead_s, behind_s)
    if skew_s < SKEW_WARNING_S:
        return [ok("clock-skew", "This clock and the server's agree.")]
    direction = "behind" if ahead_s else "ahead of"
    make = problem if skew_s >= SKEW_PROBLEM_S else warning
    return [
        make(
            "clock-skew",
            f"This machine's clock is {skew_s:,.0f} s {direction} the server's.",
            "Let both set their clocks by NTP (timedatectl set-ntp true). Until then certificates, "
            "expiry of keys and Retry-After dates are judged wrongly.",
        )
    ]


def check_greeting(answer: Answer | NoAnswer, url: str) -> list[Finding]:
    """What a request without a key came to; nothing if an API answered."""
    if isinstance(answer, NoAnswer) and answer.tls_error is not None:
        return [explain_tls(answer.tls_error, urlsplit(url).hostname or "the server")]
    if isinstance(answer, NoAnswer):
        return [
            problem(
                "answer",
                f"A connection was made, but GET {url} got no proper answer: {answer.reason}.",
                "Check that this port is the server's HTTP port, and its log.",
            )
        ]
    if is_api(answer):
        return []
    if answer.status == 407:
        return [
            problem(
                "proxy",
                "The proxy wants a user name and password of its own (407).",
                "Write them into the proxy variable, http://USER:PASSWORD@proxy:3128, or add the "
                "server to NO_PROXY.",
            )
        ]
    if answer.status == 400 and b"https" in answer.body.lower():
        return [plain_to_tls(url)]
    if 300 <= answer.status < 400:
        place = answer.headers.get("location", "elsewhere")
        return [
            problem(
                "answer",
                f"GET {url} is redirected to {place}; clients do not send keys along.",
                "Use the address it points to as the base URL.",
            )
        ]
    if answer.status >= 500:
        return [
            problem(
                "answer",
                f"GET {url} was answered with status {answer.status}: {answer.message}",
                "The server, or a proxy before it, is in trouble: see its log.",
            )
        ]
    return [
        problem(
            "answer",
            f"GET {url} was answered with status {answer.status}, and not by an OpenAI-compatible "
            f"API: {answer.message[:120]}",
            "Check host, port and path of the base URL; something else may be listening there.",
        )
    ]


def plain_to_tls(url: str) -> Finding:
    """The port is one of TLS, and the URL says otherwise."""
    seen = f"The server speaks TLS on this port, but {url} begins with http://."
    return problem("scheme-mismatch", seen, "Write https://.")


def check_models_answer(answer: Answer | NoAnswer, url: str) -> list[Finding]:
    """What the same request with the key came to."""
    if isinstance(answer, NoAnswer) or answer.status >= 500 or answer.status < 200:
        return check_greeting(answer, url)
    if answer.status == 200:
        return [ok("key", "The server knows the key.")]
    if answer.status == 429:
        return [refused_by_limit(answer)]
    if answer.status in (401, 403):
        found, mend = _WRONG_KEY.get(
            answer.error_code,
            (
                "key",
                "Copy the key anew, whole; a relay's operator sees its beginning in `keys list`.",
            ),
        )
        return [problem(found, f"The server refuses the key: {answer.message}", mend)]
    return []


def refused_by_limit(answer: Answer) -> Finding:
    """What a 429 means."""
    if answer.error_code in ("insufficient_quota", "billing_hard_limit_reached"):
        return problem(
            "credit-used-up",
            f"The call was refused for good: {answer.message}",
            "Add credit, or raise the spend cap; trying again does not help.",
        )
    after = answer.headers.get("retry-after")
    again = f" It may be tried again in {after} s." if after else ""
    return problem(
        "limit-reached",
        f"The call was refused for now: {answer.message}{again}",
        "Let one place only retry, wait as long as Retry-After says, and limit what is sent per "
        "second, not only per minute.",
    )
