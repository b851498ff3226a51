"""What a caller asks of a model, in no family's words: every request is read into this, and written
from it.

`where` is the place in the caller's body, for error messages.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

import msgspec

from merino.translation.answered import Made
from merino.wire.fields import Fields
from merino.wire.seals import OPENAI

Role = Literal["system", "developer", "user", "assistant"]


@dataclass(slots=True)
class Text:
    text: str
    cache: Any = None
    """The caller's `prompt_cache_breakpoint` behind this part."""
    control: Any = None
    """The caller's `cache_control`, which asks for the same of others."""


@dataclass(slots=True)
class Refusal:
    text: str


@dataclass(slots=True)
class Image:
    url: str | None
    file_id: str | None = None
    detail: str | None = None
    where: str = ""
    cache: Any = None
    control: Any = None


@dataclass(slots=True)
class File:
    file_id: str | None = None
    data: str | None = None
    url: str | None = None
    name: str | None = None
    where: str = ""
    cache: Any = None
    control: Any = None


@dataclass(slots=True)
class Audio:
    data: str
    format: str
    where: str = ""


Part = Text | Refusal | Image | File | Audio


@dataclass(slots=True)
class Message:
    role: Role
    parts: list[Part]
    name: str | None = None
    phase: str | None = None
    is_plain: bool = False
    """The caller sent one text, not a list of parts."""
    where: str = ""


@dataclass(slots=True)
class Thought:
    """`text` is the thinking itself, `summary` what the vendor tells of it, `sealed` what only its
    `maker` can read."""

    text: str = ""
    summary: tuple[str, ...] = ()
    sealed: str | None = None
    id: str | None = None
    maker: str = OPENAI
    where: str = ""


@dataclass(slots=True)
class Call:
    """`payload` is the arguments' JSON, or the text for a custom tool."""

    id: str
    name: str
    payload: str
    namespace: str | None = None
    is_custom: bool = False
    control: Any = None


@dataclass(slots=True)
class Result:
    call_id: str
    parts: list[Part]
    is_custom: bool = False
    where: str = ""
    is_error: bool = False
    control: Any = None


Item = Message | Thought | Call | Result


@dataclass(frozen=True, slots=True)
class Tool:
    """`schema` is the raw JSON schema of a function's parameters, `grammar` the decoded `format` of
    a custom tool."""

    name: str
    description: str | None = None
    schema: Any = None
    strict: bool | None = None
    namespace: str | None = None
    is_custom: bool = False
    grammar: Any = None
    where: str = ""
    control: Any = None


@dataclass(frozen=True, slots=True)
class Choice:
    """Which tools the model may or must call: any, or those of `only`. `is_one`: exactly that one
    must be called."""

    mode: Literal["none", "auto", "required"]
    only: tuple[tuple[str | None, str], ...] = ()
    is_one: bool = False


@dataclass(frozen=True, slots=True)
class Format:
    """`kind`: `json_schema` or `json_object`; plain text has no format."""

    kind: str
    name: str | None = None
    description: str | None = None
    schema: Any = None
    strict: Any = None


@dataclass(slots=True)
class Asked:
    """`settings` are by the name of their meaning (`meanings.py`); `others` are fields of no
    family, which go as they came; `fields` is the caller's body, which some answers repeat."""

    via: str
    """The upstream's family, as error messages name it."""
    model: str = ""
    items: list[Item] = field(default_factory=list[Item])
    tools: list[Tool] = field(default_factory=list[Tool])
    choice: Choice | None = None
    format: Format | None = None
    stream: bool = False
    settings: dict[str, msgspec.Raw] = field(default_factory=dict[str, msgspec.Raw])
    wheres: dict[str, str] = field(default_factory=dict[str, str])
    """The caller's own field of each setting."""
    others: Fields = field(default_factory=dict[str, msgspec.Raw])
    fields: Fields = field(default_factory=dict[str, msgspec.Raw])
    dispensable: dict[str, tuple[str, msgspec.Raw | None]] = field(
        default_factory=dict[str, tuple[str, msgspec.Raw | None]]
    )
    """Fields of the written body with something inside that some servers refuse and that an answer
    can do without: the word by which they name it, and the field without it (`None`: no such
    field)."""
    made: Made = field(default_factory=lambda: Made("", 0))
    told: list[str] = field(default_factory=list[str])
    """What was changed, for `x-merino-adjusted`."""

    def tell(self, change: str) -> None:
        if change not in self.told:
            self.told.append(change)
