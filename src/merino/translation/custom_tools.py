"""Custom tools where there are functions only: a function with one text."""

from __future__ import annotations

from merino.translation.asked import Tool
from merino.translation.values import members_of

ONE_TEXT = {
    "type": "object",
    "properties": {"input": {"type": "string", "description": "The whole input, as plain text."}},
    "required": ["input"],
    "additionalProperties": False,
}
"""The parameters of the function that stands for a custom tool."""


def described(tool: Tool) -> str:
    """What a custom tool is for, and which grammar its input must follow: nothing enforces that
    here, so that the model must be told."""
    texts = [tool.description] if tool.description else []
    grammar = members_of(tool.grammar)
    if grammar.get("definition"):
        syntax = grammar.get("syntax") or "lark"
        texts.append(
            f"The input must follow this grammar ({syntax}), without quotes or a code fence:\n"
            f"{grammar['definition']}"
        )
    return "\n\n".join(texts)
