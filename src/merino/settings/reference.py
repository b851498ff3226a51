"""The settings reference as Markdown, made from the tree: `python -m merino.settings.reference`."""

from __future__ import annotations

import json
import sys
import typing
from collections.abc import Iterator
from dataclasses import MISSING, Field
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Any

from merino.domain.money import format_nanos
from merino.settings.load import key_of, settable, unwrapped
from merino.settings.tree import Settings

_HEAD = """\
# Settings

*Made from the code by `python -m merino.settings.reference`; a test keeps it fresh.*

Merino needs no settings. What you do set stands in a TOML file, which `merino serve --config FILE`
reads (or `MERINO_CONFIG`, or `merino.toml` in the working directory). `merino config check` says
what is wrong with it, with line and way out, and SIGHUP makes a running relay read it again.

Every setting outside of `[[deployments]]` and `[aliases]` can be given as an environment variable
too, which wins over the file: `MERINO_SERVER__PORT=9000` is `port` in `[server]`.

Names say their unit: `_s` seconds, `_bytes` bytes, `_tokens` LLM tokens. Amounts of money are
numbers or texts with up to nine decimals. Files are looked up from the settings file's folder.

A credential is a reference: `env:NAME` for an environment variable, `file:PATH` for a file. The
secret itself is taken too, with a warning.

A reload changes everything but the settings marked *at start*: these wait for the next start, and
the log names those that were changed.
"""
_TAIL = """
## Without a file

Without `[[deployments]]`, every provider is offered whose environment variable is set:
`OPENAI_API_KEY`, `DEEPSEEK_API_KEY`, `ANTHROPIC_API_KEY`, `GEMINI_API_KEY` (and `OPENAI_BASE_URL`
and its like). Of OpenRouter no prices are known: its models are named as `[[deployments]]`.

Each priced model of it is called `provider/model`, and by its
plain name at the first of these providers that has it. The simulator's `sim/o3`, `sim/o3-mini`,
`sim/o4` and `sim/o4-mini` are always there; while nothing else is, so are their plain names.

A deployment that no alias names is offered under its own name.

## Example

```toml
[server]
port = 9000

[prices]
markup.factor = 1.2

[[deployments]]
name = "openai-o3"
base_url = "https://api.openai.com/v1"
credential = "env:OPENAI_API_KEY"
upstream_model = "o3"

[[deployments]]
name = "local"
base_url = "http://127.0.0.1:11434/v1"
upstream_model = "qwen3"
price = { input = "0.10", output = "0.40" }

[aliases.o3]
deployments = ["openai-o3", "local"]
output_tokens_max = 100_000
context_tokens_max = 200_000
reasoning = true
```
"""


def reference() -> str:
    """The whole page."""
    return _HEAD + "".join(_section(Settings, ())) + _TAIL


def _section(kind: type[Any], path: tuple[str, ...]) -> Iterator[str]:
    hints = typing.get_type_hints(kind, include_extras=True)
    leaves: list[str] = []
    tables: list[tuple[Field[Any], type[Any], tuple[str, ...], str]] = []
    for each in settable(kind):
        name = key_of(each)
        metadata = each.metadata
        inner = metadata.get("section") or metadata.get("sections")
        inner = inner or metadata.get("named_sections")
        if inner is None and hasattr(hints[each.name], "__dataclass_fields__"):
            inner = hints[each.name]
        if inner is None:
            leaves.append(
                f"| `{name}` | {_kind(each, hints[each.name])} | {_default(each)} "
                f"| {_meaning(each)} |\n"
            )
            continue
        below = (*path, name)
        title = f"[{'.'.join(below)}]"
        if metadata.get("sections"):
            title = f"[{title}]"
        elif metadata.get("named_sections"):
            title = f"[{'.'.join(below)}.NAME]"
        tables.append((each, inner, below, title))
    if leaves:
        yield "\n| setting | type | default | meaning |\n|---|---|---|---|\n"
        yield from leaves
    for each, inner, below, title in tables:
        yield f"\n{'#' * min(len(below) + 1, 4)} `{title}`\n\n{each.metadata['doc']}\n"
        yield from _section(inner, below)


def _meaning(each: Field[Any]) -> str:
    is_fixed = each.metadata.get("holds") == "at start"
    return f"{each.metadata['doc']}{' *At start.*' if is_fixed else ''}"


def _kind(each: Field[Any], hint: Any) -> str:
    base, bounds = unwrapped(hint)
    if each.metadata.get("amount"):
        return "amount"
    if typing.get_origin(base) is typing.Literal:
        return _choices(base)
    if typing.get_origin(base) is tuple:
        its = typing.get_args(base)[0]
        if typing.get_origin(its) is typing.Literal:
            return f"list of {_choices(its)}"
    names = {
        bool: "true or false",
        int: "integer",
        float: "number",
        Decimal: "number",
        str: "text",
        Path: "file",
        date: "date",
        tuple[str, ...]: "list of texts",
        tuple[Path, ...]: "list of files",
    }
    return names.get(base, "table of texts") + _range(hint, bounds)


def _choices(literal: Any) -> str:
    return " or ".join(f"`{json.dumps(choice)}`" for choice in typing.get_args(literal))


def _range(hint: Any, bounds: dict[str, Any]) -> str:
    meta = getattr(hint, "__metadata__", (None,))[0]
    if meta is None:
        return ""
    least, above = bounds.get("ge", meta.ge), meta.gt
    most = bounds.get("le", meta.le)
    low = f"{least:,}" if least is not None else f"above {above:,}"
    return f", {low} to {most:,}"


def _default(each: Field[Any]) -> str:
    if each.metadata.get("required"):
        return "required"
    if each.default is MISSING or each.default is None or each.default in ("", ()):
        return "none"
    if each.metadata.get("amount"):
        return f'`"{format_nanos(each.default)}"`'
    if isinstance(each.default, Decimal):
        return f"`{each.default}`"
    if isinstance(each.default, int) and not isinstance(each.default, bool):
        return f"`{each.default:_}`" if each.default >= 10_000 else f"`{each.default}`"
    return f"`{json.dumps(each.default)}`"


if __name__ == "__main__":
    sys.stdout.write(reference())
