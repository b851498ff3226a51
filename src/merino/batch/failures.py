"""What a failed item says of the others: is it the item's own, everybody's, or may it pass?

It is the relay's own judgement (`gateway/verdicts.py`), so that a vendor's words mean the same
here: some say 400 of a key, 412 of an unpaid bill, 403 of a prompt, 200 of anything.
"""

from __future__ import annotations

from collections.abc import Iterable

from merino.client.answers import FINAL_CODES, codes_of
from merino.domain.errors import Verdict
from merino.gateway.verdicts import Sent, judge, judge_answer
from merino.wire.lenient import decode_lenient

_CREDIT_CODES = FINAL_CODES - {"max_cost_exceeded"}
_OWN: frozenset[Verdict] = frozenset(("call", "prompt", "too_large"))
_EVERYBODYS: frozenset[Verdict] = frozenset(("credential", "credit", "denied", "too_dear", "gone"))
_SOON: frozenset[Verdict] = frozenset(("throttled", "again", "unclear", "failed"))


def verdict_of(
    status: int,
    body: bytes,
    headers: Iterable[tuple[bytes, bytes]] = (),
    sent: bytes = b"",
) -> Verdict:
    """What a failure is about. `status` is 200 for what was taken for an answer and is none, and 0
    where nothing came."""
    if 0 < status < 300 or status >= 400:
        try:
            told: object = decode_lenient(body)
        except ValueError:
            told = None
        if status < 500 and not _CREDIT_CODES.isdisjoint(codes_of(told)):
            return "credit"
        if status < 300:
            refusal = judge_answer(told, Sent(sent))
            return "failed" if refusal is None else refusal.verdict
        # What is left of a limit was told before the calls that run beside this one: too little for
        # it, perhaps, and no word about its size.
        pairs = [each for each in headers if not each[0].startswith(b"x-ratelimit-remaining-")]
        return judge(status, pairs, body, Sent(sent, len(sent) // 4)).verdict
    return "failed"


def is_own(verdict: Verdict) -> bool:
    """The item itself is refused: it is done, and no other is."""
    return verdict in _OWN


def is_everybodys(verdict: Verdict) -> bool:
    """Every other item would be refused alike: the key, the credit, the address or the model."""
    return verdict in _EVERYBODYS


def may_pass_soon(verdict: Verdict) -> bool:
    """The same item may be answered in a moment."""
    return verdict in _SOON
