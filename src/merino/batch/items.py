"""What a batch is made of: OpenAI's Batch lines, plain prompts, or a CSV or Parquet file and a
template.

Files are read twice, line by line: once to check them whole before anything is sent, once to send.
Neither keeps more than a few bytes a line.
"""

from __future__ import annotations

import json
from array import array
from codecs import BOM_UTF8, BOM_UTF16_BE, BOM_UTF16_LE
from collections.abc import Iterator
from dataclasses import dataclass, field
from hashlib import blake2b
from pathlib import Path
from string import Formatter
from typing import Any, Literal, cast

import msgspec

from merino.batch import csv_rows, parquet
from merino.domain.errors import Misconfigured
from merino.wire.served import BATCH_PATHS

Format = Literal["jsonl", "text", "csv", "parquet"]
TABLES = frozenset(("csv", "parquet"))

URLS = frozenset(BATCH_PATHS)
PROBLEMS_MAX = 20
"""Problems told of at most; more are only counted."""
_SHARES = 16
_NOT_BATCHED = {
    "stream": "a batch has no streams",
    "background": "a batch waits for its answers",
}
_ALLOWED = frozenset(("custom_id", "method", "url", "body"))


@dataclass(frozen=True, slots=True)
class Item:
    """One call of a batch. `number` counts items from 0; `line` counts lines from 1."""

    number: int
    line: int
    custom_id: str
    url: str
    body: dict[str, Any]


class BadItem(ValueError):
    """A line that is no item; says why."""


@dataclass(frozen=True, slots=True)
class Source:
    """A file of items. `model` and `prompt` fill in what the file does not say: every prompt of a
    text file, every row of a CSV or Parquet file through the template ``Classify: {text}``. Rows of
    Parquet count as lines."""

    path: Path
    format: Format
    model: str | None = None
    prompt: str | None = None

    def items(self) -> Iterator[Item | tuple[int, BadItem]]:
        """Every item; a line that is none comes as its number and what is wrong with it."""
        number = 0
        for line, read in self._lines():
            if isinstance(read, BadItem):
                yield line, read
                continue
            try:
                item = self._item(number, line, read)
            except BadItem as error:
                yield line, error
            else:
                yield item
            number += 1

    def _lines(self) -> Iterator[tuple[int, Any]]:
        if self.format == "parquet":
            assert self.prompt is not None
            yield from parquet.rows(self.path, template_fields(self.prompt))
            return
        if self.format == "csv":
            refuse_utf16(self.path)
            for line, row in csv_rows.rows(self.path):
                yield line, BadItem(row) if isinstance(row, str) else row
            return
        refuse_utf16(self.path)
        with self.path.open("rb") as file:
            for line, raw in enumerate(file, 1):
                text = (raw.removeprefix(BOM_UTF8) if line == 1 else raw).strip()
                if text:
                    yield line, text

    def _item(self, number: int, line: int, read: Any) -> Item:
        if self.format in TABLES:
            return self._from_row(number, line, cast("dict[str, Any]", read))
        try:
            text = cast("bytes", read).decode()
        except UnicodeDecodeError:
            raise BadItem("not UTF-8") from None
        if self.format == "text":
            return Item(number, line, f"line-{line}", "/v1/chat/completions", self._chat(text))
        return self._from_json(number, line, text)

    def _from_json(self, number: int, line: int, text: str) -> Item:
        try:
            value: object = json.loads(text)
        except ValueError as error:
            raise BadItem(f"not JSON: {error}") from None
        except RecursionError:
            raise BadItem("not JSON: nested too deeply") from None
        if not isinstance(value, dict):
            raise BadItem("not a JSON object")
        fields = cast("dict[str, Any]", value)
        if unknown := set(fields) - _ALLOWED:
            raise BadItem(f"unknown field {min(unknown)!r}; known: {', '.join(sorted(_ALLOWED))}")
        custom_id = fields.get("custom_id")
        if not isinstance(custom_id, str) or not custom_id:
            raise BadItem("custom_id must be a text that is not empty")
        if fields.get("method", "POST") != "POST":
            raise BadItem(f"method {fields['method']!r}: must be POST")
        url = fields.get("url", "/v1/chat/completions")
        if url not in URLS:
            raise BadItem(f"url {url!r}: must be one of {', '.join(sorted(URLS))}")
        body: object = fields.get("body")
        if not isinstance(body, dict):
            raise BadItem("body must be an object")
        members = cast("dict[str, Any]", body)
        if self.model is not None:
            members = {**members, "model": self.model}
        if not isinstance(members.get("model"), str):
            raise BadItem("body.model is missing; give --model")
        for name, why in _NOT_BATCHED.items():
            if members.get(name):
                raise BadItem(f"body.{name}: {why}; remove it")
        return Item(number, line, custom_id, str(url), members)

    def _from_row(self, number: int, line: int, values: dict[str, Any]) -> Item:
        empty = [name for name, value in values.items() if value is None and name != "custom_id"]
        if empty:
            raise BadItem(f"column {empty[0]!r} is null")
        assert self.prompt is not None
        try:
            text = self.prompt.format_map(values)
        except (KeyError, IndexError) as error:
            raise BadItem(f"the template needs a column {error}") from None
        except (ValueError, TypeError) as error:
            raise BadItem(f"does not fit the template: {error}") from None
        custom_id = str(values.get("custom_id") or f"line-{line}")
        return Item(number, line, custom_id, "/v1/chat/completions", self._chat(text))

    def _chat(self, text: str) -> dict[str, Any]:
        return {"model": self.model, "messages": [{"role": "user", "content": text}]}


def refuse_utf16(path: Path) -> None:
    """Raises `Misconfigured` if a text file looks like UTF-16, as PowerShell and Notepad write."""
    with path.open("rb") as file:
        head = file.read(4)
    if head.startswith((BOM_UTF16_LE, BOM_UTF16_BE)) or (len(head) == 4 and 0 in head):
        raise Misconfigured(
            f"{path} is UTF-16 text. Save it as UTF-8 (in PowerShell: Out-File -Encoding utf8)"
        )


def template_fields(prompt: str) -> list[str]:
    """The columns a template names. Raises `ValueError` if it is none."""
    fields = [name for _, name, _, _ in Formatter().parse(prompt) if name is not None]
    for name in fields:
        if set(name) & set(".["):
            raise ValueError(f"{{{name}}}: a column's plain name is needed")
    return fields


@dataclass(slots=True)
class Checked:
    """A file, looked through. By number: `hashes` of every good item's `custom_id`, `digests` of
    all that it asks; the numbers in `bad` are not items."""

    items: int
    hashes: array[int]
    problems: list[str]
    problem_count: int
    bad: set[int]
    digests: array[int] = field(default_factory=lambda: array("Q"))


def check(source: Source) -> Checked:
    """Look through the whole file: broken lines, and ids that occur twice."""
    hashes = array("Q")
    problems: list[str] = []
    count = 0
    bad: set[int] = set()
    lines, digests = array("Q"), array("Q")

    def problem(line: int, text: str) -> None:
        nonlocal count
        count += 1
        if len(problems) < PROBLEMS_MAX:
            problems.append(f"{source.path}:{line}: {text}")

    items = 0
    for each in source.items():
        if isinstance(each, Item):
            hashes.append(hash_of(each.custom_id))
            digests.append(digest_of(each))
            lines.append(each.line)
        else:
            line, error = each
            problem(line, str(error))
            bad.add(len(hashes))
            hashes.append(0)
            digests.append(0)
            lines.append(line)
        items += 1
    for number, first in _repeated(hashes):
        problem(lines[number], f"the custom_id of line {lines[first]} once more")
        bad.add(number)
    return Checked(items, hashes, problems, count, bad, digests)


def _repeated(hashes: array[int]) -> Iterator[tuple[int, int]]:
    """Numbers whose hash occurred before, and where. A share of the hashes at a time, so that a
    large file needs little memory."""
    for share in range(_SHARES):
        seen: dict[int, int] = {}
        for number, value in enumerate(hashes):
            if value % _SHARES == share and value:
                first = seen.setdefault(value, number)
                if first != number:
                    yield number, first


def hash_of(custom_id: str) -> int:
    """64 bits of an id, never 0: enough to tell a million apart, in eight bytes each."""
    return _bits(custom_id.encode(errors="surrogatepass"))


def digest_of(item: Item) -> int:
    """64 bits of what an item asks, its id included, never 0: another order of its fields is the
    same."""
    name = item.custom_id.encode(errors="surrogatepass")
    try:
        body = msgspec.json.encode(item.body, order="deterministic")
    except (UnicodeEncodeError, OverflowError):
        body = json.dumps(item.body, sort_keys=True).encode()
    return _bits(b"%b\0%b\0%b" % (name, item.url.encode(), body))


def _bits(data: bytes) -> int:
    return int.from_bytes(blake2b(data, digest_size=8).digest()) or 1


def encoded(body: dict[str, Any]) -> bytes:
    """A body as it is sent."""
    try:
        return json.dumps(body, ensure_ascii=False, separators=(",", ":")).encode()
    except UnicodeEncodeError:
        # Half a surrogate pair, which models cut emoji to: JSON can say it, UTF-8 cannot.
        return json.dumps(body, separators=(",", ":")).encode()
