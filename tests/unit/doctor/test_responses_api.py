"""Whether an upstream has the Responses API is told by how it refuses an empty call."""

from __future__ import annotations

import pytest

from merino.doctor.asking import Answer, NoAnswer
from merino.doctor.credential import judged_responses


def answered(status: int) -> Answer:
    return Answer(status, {}, b'{"error":{"message":"no"}}', 0.0, 0.0)


@pytest.mark.parametrize(
    ("status", "claims", "severity"),
    [
        (400, (), "ok"),
        (422, ("a",), "ok"),
        (404, (), "ok"),
        (405, (), "ok"),
        (404, ("a", "b"), "problem"),
        (501, ("a",), "problem"),
    ],
)
def test_it_is_a_problem_only_where_the_settings_claim_it(
    status: int, claims: tuple[str, ...], severity: str
) -> None:
    """A refusal about the path says that there is none; deployments that claim it are named."""
    (found,) = judged_responses(answered(status), "http://x/v1 (deployment a)", claims)
    assert ("responses-api", severity) == (found.id, found.severity)
    assert all(name in found.seen for name in claims) or severity == "ok"
    assert (status in (404, 405, 501)) == ("no Responses API" in found.seen)


@pytest.mark.parametrize("answer", [NoAnswer("gone"), answered(500), answered(503)])
def test_an_upstream_in_trouble_says_nothing_of_it(answer: Answer | NoAnswer) -> None:
    """No finding is made of it."""
    assert [] == judged_responses(answer, "x", ("a",))
