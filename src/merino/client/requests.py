"""What of the openai package's requests an attempt changes: where it goes, how long it may take,
and that its body can be sent again."""

# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
# The package's options and requests differ between its versions.
from __future__ import annotations

import io
from collections.abc import Iterable, Mapping
from typing import Any
from urllib.parse import urlsplit

from merino.client.policy import Endpoint

_OF_THE_FIRST = ("cookie", "api-key", "x-api-key", "openai-organization", "openai-project")
"""Headers that say to the first endpoint who asks; they are no other's."""


def send_to(request: Any, endpoint: Endpoint, base_url: Any) -> None:
    """Turn a request that was made for `base_url` into one for another endpoint: its address and
    its key, whatever the caller's headers say."""
    target = urlsplit(endpoint.base_url)
    below = request.url.raw_path.decode("ascii").removeprefix(
        base_url.raw_path.decode("ascii").partition("?")[0].rstrip("/")
    )
    request.url = type(request.url)(
        f"{target.scheme}://{target.netloc}{target.path.rstrip('/')}{below}"
    )
    request.headers["host"] = target.netloc.rpartition("@")[2]
    for name in _OF_THE_FIRST:
        request.headers.pop(name, None)
    request.headers["authorization"] = f"Bearer {endpoint.api_key}"


def end_within(request: Any, seconds: float) -> dict[str, float | None]:
    """No single operation of the request takes longer than all of it may. Returns the time-outs it
    had: a stream has them back once its head is there (`request.extensions` is read then)."""
    given: dict[str, float | None] = dict(request.extensions.get("timeout") or {})
    request.extensions["timeout"] = {
        name: seconds if (own := given.get(name)) is None else min(own, seconds)
        for name in ("connect", "read", "write", "pool")
    }
    return given


class Replay:
    """Whether and how the body of a request can be sent again: files are read from where they
    stood; what can be read once only is sent once."""

    def __init__(self, options: Any) -> None:
        self._files: list[tuple[Any, int]] = []
        self.is_possible = all(self._noted(each) for each in _contents(options))

    def rewind(self) -> bool:
        """Whether the body stands where it stood; then it may be sent again."""
        if not self.is_possible:
            return False
        try:
            for file, position in self._files:
                file.seek(position)
        except (OSError, ValueError):  # closed, perhaps, or a pipe after all
            return False
        return True

    def _noted(self, content: Any) -> bool:
        if content is None or isinstance(content, str | bytes | bytearray | list | tuple):
            return True
        if not hasattr(content, "read"):
            return hasattr(content, "__fspath__")
        try:
            self._files.append((content, content.tell()))
            return content.seekable() if hasattr(content, "seekable") else hasattr(content, "seek")
        except (AttributeError, OSError, ValueError, io.UnsupportedOperation):
            return False


def _contents(options: Any) -> Iterable[Any]:
    content = getattr(options, "content", None)
    if content is not None:
        yield content
    files = options.files
    if not files:
        return
    rows = files.values() if isinstance(files, Mapping) else [row[1] for row in files]
    for row in rows:
        # A file is given as itself, or as (name, file, ...).
        yield row[1] if isinstance(row, tuple) and len(row) > 1 else row
