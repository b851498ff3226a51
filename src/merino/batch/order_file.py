"""The file of an ordered batch: looked through whole before anything is called."""

from __future__ import annotations

from array import array
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from merino.batch.items import hash_of
from merino.domain.batch import BatchProblem
from merino.wire.marks import UTF8_MARK, encoding_of, not_utf8
from merino.wire.unreadable import Unreadable, refusal

PROBLEMS_MAX = 50
"""Problems told of at most."""
_CUSTOM_ID_MAX = 512
_decode = msgspec.json.Decoder(dict[str, Any]).decode


class ItemPlace(NamedTuple):
    """Where an item's line lies in the file."""

    number: int
    custom_id: str
    offset: int
    size_bytes: int


class OrderFile:
    """Read twice, line by line: `check` finds what is wrong, `places` where every item lies."""

    def __init__(self, path: Path, endpoint: str, items_max: int) -> None:
        self._path = path
        self._endpoint = endpoint
        self._items_max = items_max

    def check(self) -> list[BatchProblem]:
        """Everything wrong with it, up to `PROBLEMS_MAX`; empty if it can be run."""
        problems: list[BatchProblem] = []
        if (encoding := self._foreign_encoding()) is not None:
            message = f"The file is {not_utf8(encoding)}."
            return [BatchProblem("invalid_encoding", message, 1)]
        seen: dict[int, int] = {}
        lines = array("Q")
        model: str | None = None
        for line, _, raw in self._lines():
            if len(problems) >= PROBLEMS_MAX:
                break
            lines.append(line)
            if len(lines) > self._items_max:
                problems.append(
                    BatchProblem(
                        "too_many_requests",
                        f"The file has more than {self._items_max:,} requests; split it.",
                        line,
                    )
                )
                break
            item = self._item(raw)
            if isinstance(item, BatchProblem):
                problems.append(_at(item, line))
                continue
            first = seen.setdefault(hash_of(item["custom_id"]), line)
            if first != line:
                problems.append(
                    BatchProblem(
                        "duplicate_custom_id",
                        f"The custom_id of line {first} is used again.",
                        line,
                        "custom_id",
                    )
                )
            if model is None:
                model = str(item["body"]["model"])
            elif item["body"]["model"] != model:
                problems.append(
                    BatchProblem(
                        "mismatched_model",
                        f"All requests of a batch name one model; the first names '{model[:100]}'.",
                        line,
                        "body.model",
                    )
                )
        if not lines:
            problems.append(BatchProblem("empty_file", "The file has no requests."))
        return problems

    def places(self) -> Iterator[ItemPlace]:
        """Every item of a file that was checked."""
        for number, (_, offset, raw) in enumerate(self._lines()):
            yield ItemPlace(number, _decode(raw)["custom_id"], offset, len(raw))

    def _lines(self) -> Iterator[tuple[int, int, bytes]]:
        offset = 0
        with self._path.open("rb") as file:
            for line, raw in enumerate(file, 1):
                # A mark stands at the start of a file, and of each that was joined to it.
                item = raw.removeprefix(UTF8_MARK)
                if item.strip():
                    yield line, offset + len(raw) - len(item), item
                offset += len(raw)

    def _foreign_encoding(self) -> str | None:
        with self._path.open("rb") as file:
            return encoding_of(file.read(4))

    def _item(self, raw: bytes) -> dict[str, Any] | BatchProblem:
        try:
            item = _decode(raw)
        except Unreadable as error:
            if not raw.lstrip().startswith(b"{"):
                return BatchProblem("invalid_json_line", "The line is not a JSON object.")
            told = refusal(raw, error)
            message = told.message.replace("The body", "The line", 1)
            return BatchProblem("invalid_json_line", message, param=told.param)
        custom_id: object = item.get("custom_id")
        if not isinstance(custom_id, str) or not 0 < len(custom_id) <= _CUSTOM_ID_MAX:
            return BatchProblem(
                "missing_required_parameter",
                f"custom_id must be a text of 1 to {_CUSTOM_ID_MAX} characters.",
                param="custom_id",
            )
        if item.get("method") != "POST":
            return BatchProblem("invalid_method", "method must be POST.", param="method")
        if item.get("url") != self._endpoint:
            return BatchProblem(
                "invalid_url",
                f"url must be the batch's endpoint, {self._endpoint}.",
                param="url",
            )
        body: object = item.get("body")
        if not isinstance(body, dict):
            return BatchProblem(
                "missing_required_parameter", "body must be an object.", param="body"
            )
        if not isinstance(item["body"].get("model"), str):
            return BatchProblem(
                "missing_required_parameter", "body.model must be a text.", param="body.model"
            )
        if item["body"].get("stream"):
            return BatchProblem(
                "invalid_value", "A batch has no streams; leave stream out.", param="body.stream"
            )
        return item


def _at(problem: BatchProblem, line: int) -> BatchProblem:
    return BatchProblem(problem.code, problem.message, line, problem.param)
