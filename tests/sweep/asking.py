"""Asks over HTTP, runs commands, and writes down what came."""

from __future__ import annotations

import contextlib
import io
import json
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import httpx2
from neutral import Neutral

LINE_LENGTH_MAX = 110
PAUSE_S = 0.0015
"""Calls of one millisecond are listed in any order."""
# Of the connection, or of the day.
_LEFT_OUT = {"date", "content-length", "connection", "transfer-encoding", "server", "vary"}
# What nearly every answer has; its absence is written down.
_USUAL = {"content-type": "application/json", "cache-control": "no-store"}


class Recording:
    """One file: what was asked, then what was answered, over and over."""

    def __init__(self, neutral: Neutral) -> None:
        self._neutral = neutral
        self._parts: list[str] = []
        self.asked = 0

    def heading(self, text: str) -> None:
        self._parts.append(f"\n\n# {text}\n")

    def asked_over_http(
        self, what: str, method: str, target: str, sent: str, answer: httpx2.Response
    ) -> None:
        self.asked += 1
        lines = [f"\n## {what}\n{method} {target}\n"]
        if sent:
            lines.append(f"> {_cut(sent)}\n")
        lines.append(f"{answer.status_code} {_headers(answer.headers)}".rstrip() + "\n")
        self._parts.append(self._neutral("".join(lines)) + _shown(answer.content, self._neutral))

    def ran(
        self,
        argv: Iterable[str],
        code: int,
        out: str,
        err: str,
        plainer: Callable[[str], str] = str,
    ) -> None:
        """`plainer` leaves out what was measured."""
        self.asked += 1
        shown = " ".join(each if each and " " not in each else repr(_cut(each)) for each in argv)
        out, err = plainer(out), plainer(err)
        lines = [f"\n$ merino {shown}\n"]
        if code:
            lines.append(f"exit code {code}\n")
        lines += [f"|{line}\n" for line in out.removesuffix("\n").split("\n") if out]
        lines += [f"!{line}\n" for line in err.removesuffix("\n").split("\n") if err]
        self._parts.append(self._neutral("".join(lines)))

    def write(self, path: Path) -> None:
        path.write_text("".join(self._parts).strip("\n") + "\n")


class Asking:
    """One server, over one connection."""

    def __init__(self, url: str, headers: Mapping[str, str], recording: Recording) -> None:
        self._http = httpx2.Client(base_url=url, headers=dict(headers), timeout=30, trust_env=False)
        self._recording = recording

    def __call__(
        self,
        what: str,
        method: str,
        target: str,
        *,
        body: Any = None,
        content: bytes | None = None,
        headers: Mapping[str, str] | None = None,
        without: str = "",
        form: tuple[dict[str, Any], dict[str, Any]] | None = None,
        notes: str = "",
    ) -> Any:
        """The answer's JSON, if it is some. `without` names a usual header to leave out."""
        more = dict(headers or {})
        if content is None and body is not None:
            content = json.dumps(body, ensure_ascii=False, separators=(",", ":")).encode()
            more.setdefault("content-type", "application/json")
        request = self._http.build_request(
            method,
            target,
            content=content,
            headers=[(each.encode(), value.encode("latin-1")) for each, value in more.items()],
            data=form[0] if form else None,
            files=form[1] if form else None,
        )
        if without:
            del request.headers[without]
        for name in ("accept", "accept-encoding", "user-agent"):
            if name not in more:
                del request.headers[name]
        answer = self._http.send(request)
        time.sleep(PAUSE_S)
        sent = notes or (content or b"").decode("utf-8", "backslashreplace")
        shown = ", ".join(f"{name}: {_cut(value)}" for name, value in (headers or {}).items())
        sent = f"({shown}) {sent}".strip() if shown else sent
        self._recording.asked_over_http(what, method, target, sent, answer)
        with contextlib.suppress(ValueError):
            return answer.json()
        return None


def run_command(argv: Sequence[str]) -> tuple[int, str, str]:
    """Exit code, standard output and standard error of `merino`, in this process."""
    from merino.cli import main  # under the clock, which is set before

    before = sys.argv, sys.stdout, sys.stderr, sys.stdin
    out, err = (io.TextIOWrapper(io.BytesIO(), "utf-8", write_through=True) for _ in range(2))
    sys.argv, sys.stdout, sys.stderr = ["merino", *argv], out, err
    sys.stdin = io.TextIOWrapper(io.BytesIO(), "utf-8")
    code: Any = 0
    try:
        main()
    except SystemExit as end:
        code = end.code
    finally:
        sys.argv, sys.stdout, sys.stderr, sys.stdin = before
    said, told = (cast("io.BytesIO", each.buffer).getvalue().decode() for each in (out, err))
    return int(code or 0), said, told


def _headers(headers: httpx2.Headers) -> str:
    shown = [
        f"{name}: {value}"
        for name, value in sorted(headers.items())
        if name not in _LEFT_OUT and _USUAL.get(name) != value
    ]
    shown += [f"no {name}" for name in _USUAL if name not in headers]
    return "; ".join(shown)


def _shown(content: bytes, neutral: Neutral) -> str:
    """JSON as the product writes it is broken into lines behind `~`, and nothing is lost by that;
    anything else stands as it is, behind `|`."""
    if not content:
        return ""
    text = content.decode("utf-8", "backslashreplace")
    with contextlib.suppress(ValueError):
        if _compact(json.loads(text)) == text:
            value = json.loads(neutral(text))
            return "".join(f"~{line}\n" for line in _broken(value, "").split("\n"))
    return "".join(f"|{line}\n" for line in neutral(text).split("\n"))


def _compact(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def _broken(value: Any, indent: str) -> str:
    whole = _compact(value)
    if len(indent) + len(whole) <= LINE_LENGTH_MAX or not isinstance(value, (dict, list)):
        return whole
    deeper = indent + " "
    if isinstance(value, dict):
        items = [f"{_compact(name)}:{_broken(each, deeper)}" for name, each in value.items()]
        begin, end = "{}"
    else:
        items = [_broken(each, deeper) for each in value]
        begin, end = "[]"
    lines = [""]
    for item in items:  # as many to a line as there is room for
        if "\n" not in item and lines[-1] and len(lines[-1]) + len(item) < LINE_LENGTH_MAX:
            lines[-1] += f"{item},"
        else:
            lines.append(f"{deeper}{item},")
    return begin + "\n".join(lines).removesuffix(",") + f"\n{indent}{end}"


def _cut(text: str) -> str:
    return text if len(text) <= 300 else f"{text[:60]}... ({len(text)} characters)"
