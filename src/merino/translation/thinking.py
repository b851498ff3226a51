"""How much a model is to think, in the words of both families.

| a chat, responses | messages | where a budget must be given |
|---|---|---|
| `none` | `thinking: disabled` | |
| `minimal` | effort `low` | 1,024 |
| `low` | effort `low` | 2,048 |
| `medium` | effort `medium` | 8,192 |
| `high` | effort `high` | 16,384 |
| `xhigh` | effort `xhigh` | 24,576 |
| `max` | effort `max` | 32,000 |

Efforts are Anthropic's and OpenAI's own words, which mean the same (OpenAI has `minimal` beside).
The vendors publish no budgets for them: 1,024 is the least that is taken, and 32,000 the most that
is advised without batches (platform.claude.com, extended thinking); between them the steps double,
as elsewhere (theopenco/llmgateway#2753). Read backwards, a budget is the effort next above it.
"""

from __future__ import annotations

from merino.wire.messages import BUDGET_MIN

BUDGETS = {
    "minimal": 1_024,
    "low": 2_048,
    "medium": 8_192,
    "high": 16_384,
    "xhigh": 24_576,
    "max": 32_000,
}
_EFFORTS = frozenset(("low", "medium", "high", "xhigh", "max"))


def effort_of(effort: str) -> str:
    """An effort in Anthropic's words; what is in none of its words goes as it is."""
    return "low" if effort == "minimal" else effort


def effort_for(budget_tokens: int) -> str:
    """The effort that such a budget stands for."""
    for effort, budget in BUDGETS.items():
        if effort in _EFFORTS and budget_tokens <= budget:
            return effort
    return "max"


def budget_for(effort: str, output_tokens_max: int) -> int:
    """The budget that stands for an effort, within an output limit; 0 if there is no room for
    any."""
    budget = min(BUDGETS.get(effort, BUDGETS["medium"]), output_tokens_max // 2)
    if budget < BUDGET_MIN:
        budget = BUDGET_MIN if output_tokens_max > BUDGET_MIN else 0
    return budget
