"""Streams of the Responses API as the simulator writes them: one of each kind."""

from __future__ import annotations

import json
from typing import Any

from merino.simulator.playback import Simulation
from merino.simulator.steps import Bytes

TOOL = {"type": "function", "name": "look_up", "parameters": {"type": "object", "properties": {}}}
CUSTOM = {"type": "custom", "name": "apply_patch"}
_SHORT = "o3!output=6,reasoning=0"
_THINKING = "o3!output=6,reasoning=64"
_SUMMED = {"reasoning": {"summary": "auto"}, "include": ["reasoning.encrypted_content"]}

ENDED: dict[str, tuple[str, dict[str, Any]]] = {
    "text": (_SHORT, {}),
    "unpadded": (_SHORT, {"stream_options": {"include_obfuscation": False}}),
    "thinking": (_THINKING, _SUMMED),
    "silent thinking": (_THINKING, {}),
    "call": (_SHORT, {"tools": [TOOL], "tool_choice": "required"}),
    "thought call": (_THINKING, {**_SUMMED, "tools": [TOOL], "tool_choice": "required"}),
    "custom call": (_SHORT, {"tools": [CUSTOM], "tool_choice": "required"}),
    "refusal": (f"{_SHORT},refusal", {}),
    "incomplete": ("o3!output=40,reasoning=0", {"max_output_tokens": 16}),
    "only thought": ("o3!reasoning=64", {"max_output_tokens": 16}),
    "no end mark": (f"{_SHORT},no_done", {}),
}
"""Streams with a proper end, by what is special about them: model and fields."""
FAILED: dict[str, tuple[str, dict[str, Any]]] = {
    "fails at once": ("o3!error_in_stream", {}),
    "fails in the text": (f"{_SHORT},error_after=3", {}),
}
SCRIPTS = {**ENDED, **FAILED}


def asked(kind: str) -> dict[str, Any]:
    """The body that asks for such a stream."""
    model, fields = SCRIPTS[kind]
    return {"model": model, "input": 'Say "hey" ünd\nmore', "stream": True, **fields}


def streamed(kind: str) -> bytes:
    steps = Simulation().steps("responses", json.dumps(asked(kind)).encode())
    return b"".join(each.data for each in steps if isinstance(each, Bytes))
