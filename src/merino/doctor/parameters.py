"""One real call, as small as can be, to see which usual parameters a model refuses.

The price is asked for and named first; the call may not cost more.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from merino.doctor.answer import refused_by_limit
from merino.doctor.asking import Answer, Asker, NoAnswer
from merino.doctor.finding import Finding, ok, problem, warning

OUTPUT_TOKENS = 16
TIMEOUT_S = 120.0
REFUSALS_MAX = 2
_REFUSED_CODES = frozenset(("unsupported_parameter", "unsupported_value", "unknown_parameter"))
_FOR_MONEY = ("(balance)", "(spend cap)")
_OF_THE_ROAD = "carried over"


def probe(
    asker: Asker, base_url: str, key: str, model: str, announce: Callable[[str], None]
) -> list[Finding]:
    """Ask a relay's `model` with `max_tokens` and `temperature`, as old programs do."""
    body: dict[str, Any] = {
        "model": model,
        "messages": [{"role": "user", "content": "Say ok."}],
        "max_tokens": OUTPUT_TOKENS,
        "temperature": 0.5,
    }
    estimate = asker.ask(f"{base_url}/estimate", key=key, body=body)
    if isinstance(estimate, NoAnswer) or estimate.status != 200:
        return check_probe(estimate, model)
    worst = str(estimate.content.get("worst_case", ""))
    announce(
        f"asking {model} once, with at most {OUTPUT_TOKENS} tokens; this costs at most {worst}"
    )
    headers = {"x-merino-max-cost": worst}
    url = f"{base_url}/chat/completions"
    answer = asker.ask(url, key=key, body=body, headers=headers, timeout_s=TIMEOUT_S)
    for _ in range(REFUSALS_MAX):
        if not _is_refused(answer):
            break
        # A refused call is free, and the relay learns one parameter from each.
        answer = asker.ask(url, key=key, body=body, headers=headers, timeout_s=TIMEOUT_S)
    return check_probe(answer, model)


def check_probe(answer: Answer | NoAnswer, model: str) -> list[Finding]:
    """What came of it."""
    if isinstance(answer, NoAnswer):
        return [
            problem(
                "answer",
                f"{model} was asked, and there was {answer.reason}.",
                "Ask again later, or with a longer --timeout-s; see the relay's log.",
            )
        ]
    if answer.status == 200:
        return [*_mended(answer, model), ok("answer", f"{model} answered.")]
    if answer.status == 429:
        return [refused_by_limit(answer)]
    said = f"{model} was not answered (status {answer.status}): {answer.message}"
    code = answer.error_code
    if _is_refused(answer):
        name = str(answer.error.get("param") or "a parameter")
        mend = f"Leave {name} out for this model; o-series models take max_completion_tokens."
        return [problem("parameter-refused", said, mend)]
    if code == "model_not_priced":
        mend = "The operator must give the model a price, in a price file or its deployment."
        return [problem("price-missing", said, mend)]
    if code == "upstream_credit_exhausted":
        mend = "The relay's operator must pay the provider, or give the relay another credential."
        return [problem("credential-rejected", said, mend)]
    if code == "upstream_credential_refused":
        mend = "The relay's operator must renew its credential at the provider."
        return [problem("credential-rejected", said, mend)]
    if code == "model_not_found":
        return [problem("alias-unknown", said, "Ask for one of the models that GET /models lists.")]
    if answer.status in (502, 503, 504):
        mend = "The provider behind the relay is in trouble, or unreachable from there."
        return [problem("upstream-unreachable", said, mend)]
    return [problem("answer", said, "See docs/reference/errors.md for what the code means.")]


def _is_refused(answer: Answer | NoAnswer) -> bool:
    """Whether the model does not take a parameter."""
    return (
        isinstance(answer, Answer) and answer.status == 400 and answer.error_code in _REFUSED_CODES
    )


def _mended(answer: Answer, model: str) -> list[Finding]:
    header = answer.headers.get("x-merino-adjusted", "")
    changes = [each.strip() for each in header.split(",") if each.strip()]
    changes = [
        each
        for each in changes
        if not each.endswith(_FOR_MONEY) and not each.startswith(_OF_THE_ROAD)
    ]
    if not changes:
        return [ok("parameter-refused", f"{model} takes max_tokens and temperature.")]
    return [
        warning(
            "parameter-refused",
            f"{model} does not take every usual parameter; the relay mended the call: "
            f"{', '.join(changes)}.",
            "Sent directly to the provider, such a call fails: use max_completion_tokens, and "
            "leave temperature and the like out for reasoning models.",
        )
    ]
