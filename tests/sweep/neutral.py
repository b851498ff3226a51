"""What differs between two recordings of the same program is replaced, by these rules:

| what | becomes |
|---|---|
| ids, secrets and voucher codes | numbered by their first appearance, of the same length |
| hints of secrets | stars |
| times of the recording, and so many days after it | noon, in the same form |
| seconds and milliseconds since 1970, from noon on | those of the hour before |
| durations, by the names of their fields | 0.5 |
| forecasts, which depend on how much of the month has passed | 1 |
| cursors | the same place at noon |
| the relay's port, the folder, its process | PORT, FOLDER, PID |
| Merino's version | 0.1.0 |

Lengths stay, so that tables stay aligned. Of what a benchmark prints only its shape is kept.
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Iterator
from typing import Any

from clock import NOON_S

from merino import __version__

_IDS = re.compile(
    r"(?P<kind>\b(?:acct|key|admin|vou|trf|top|ntc|req|batch|worker|batch_req|inv|per)_|\bmi-|\bfile-|\bmka-|\bmk-|\bb(?=[0-9a-f]{8}\b))"
    r"(?P<rest>(?<=mk-)[\w-]{43}|(?<=mka-)[\w-]{43}|(?<=mi-)[\w-]{32}|(?<=_)[0-9a-f]{12,24}\b|(?<=file-)[0-9a-f]{24}|(?<=\bb)[0-9a-f]{8}\b)"
)
_HINT = re.compile(r"\b(mka?-)([\w-]{3,4})\.\.\.[\w-]{4}")
_CODE_HINT = re.compile(r"\bMV-[0-9A-Z]{4}\b(?!-)")
_INVITATION_HINT = re.compile(r"\bmi-[\w-]{4}(?![\w-])")
_CODE = re.compile(r"\bMV(?:-[0-9A-Z]{4,5}){3,6}\b")
_TIME = re.compile(r"\b(2026-1[12]-[0-9]{2})([T ])12:[0-9]{2}:[0-9]{2}(\.[0-9]+)?")
_EPOCH = re.compile(r"\b1[78][0-9]{8}([0-9]{3})?\b")
_MEASURED = re.compile(
    r'("(?:duration_ms|ttft_ms|queue_ms|relay_ms|upstream_ms|took_ms|first_token_s)": ?)'
    r"(?!0\.0\b)[0-9.e-]+"
)
_ANSWERED_IN = re.compile(r"\b(answered in )[0-9,]+(?= ms\b)")
_USABLE = re.compile(r'("usable_in_s": ?)[0-9.e-]+')
_FORECAST = re.compile(r'("forecast(?:_nanos)?": ?"?|\bforecast +)[0-9.]+')
_HEADER = re.compile(r"\b(queue|relay|upstream|dur)=[0-9]+\.[0-9]+")
_ATTEMPT = re.compile(r";[0-9]+ms\b")
_FILE = re.compile(r'(etag: ")[0-9a-f]+|(last-modified: )[^;]+')
_PORT = re.compile(r"(127\.0\.0\.1|localhost):[0-9]{4,5}\b")
_FOR_S = re.compile(r"(?<=process PID, for )(?:[0-9]+ min )?[0-9]+ (?:s|min)\b")
_PID = re.compile(r"\b(process |kill )[0-9]+")
_PER_S = re.compile(r"\b[0-9.]+(?=/s\b)|(?<=\"calls_per_s\": )[0-9.]+")
_CURSOR = re.compile(r"\bMTc5NTUy[\w-]+")
_NUMBER = re.compile(r"[+-]?(?<![a-z])[0-9][0-9.,]*(?:e-?[0-9]+)?")
_OF_LOAD = "No rate that was tried"
_TENTHS = re.compile(r" *(?<![0-9.])[0-9]+\.[0-9](?![0-9])")


class Neutral:
    """Remembers what it has numbered."""

    def __init__(self, folder: str) -> None:
        self._folder = folder
        self._numbers: dict[str, str] = {}
        self._counts: dict[str, int] = {}

    def __call__(self, text: str) -> str:
        text = text.replace(self._folder, "FOLDER").replace(__version__, "0.1.0")
        text = _IDS.sub(lambda found: found["kind"] + self._numbered(found[0], found), text)
        text = _CODE.sub(self._code, text)
        text = _HINT.sub(lambda found: f"{found[1]}{'*' * len(found[2])}...****", text)
        text = _CODE_HINT.sub("MV-****", text)
        text = _INVITATION_HINT.sub("mi-****", text)
        text = _TIME.sub(_noon, text)
        text = _EPOCH.sub(_hour, text)
        text = _MEASURED.sub(r"\g<1>0.5", text)
        text = _USABLE.sub(r"\g<1>0.5", text)
        text = _ANSWERED_IN.sub(r"\g<1>1", text)
        text = _FORECAST.sub(r"\g<1>1", text)
        text = _HEADER.sub(r"\1=0.5", text)
        text = _PORT.sub(r"\1:PORT", text)
        text = _ATTEMPT.sub(";0ms", text)
        text = _FILE.sub(lambda found: f"{found[1] or found[2]}...", text)
        text = _PER_S.sub("1", text)
        text = _CURSOR.sub(_cursor, text)
        return _FOR_S.sub("N s", _PID.sub(r"\1PID", text))

    def _numbered(self, whole: str, found: re.Match[str]) -> str:
        kind = found["kind"]
        if whole not in self._numbers:
            count = self._counts[kind] = self._counts.get(kind, 0) + 1
            self._numbers[whole] = str(count).rjust(len(found["rest"]), "0")
        return self._numbers[whole]

    def _code(self, found: re.Match[str]) -> str:
        whole = found[0]
        if whole not in self._numbers:
            count = self._counts["code"] = self._counts.get("code", 0) + 1
            self._numbers[whole] = "MV" + re.sub("[0-9A-Z]", "X", whole[2:-3]) + f"{count:03}"
        return self._numbers[whole]


def without_figures(text: str) -> str:
    """Every number, and the width of its column."""
    lines = (re.sub(r" {2,}", "  ", _NUMBER.sub("#", line)) for line in text.split("\n"))
    return "\n".join(line.rstrip() for line in lines)


def without_tenths(text: str) -> str:
    """Milliseconds, as commands print them."""
    return _TENTHS.sub(" 0.5", text)


def shape(text: str) -> str:
    """Of a measurement: which fields there are, or the lines without a number."""
    try:
        value = json.loads(text)
    except ValueError:
        lines = (_NUMBER.sub("#", line) for line in text.split("\n"))
        return "\n".join(
            re.sub(r" {2,}", "  ", line)
            for line in lines
            if line and "#" not in line and not line.startswith(_OF_LOAD)
        )
    return "\n".join(sorted(set(_paths(value, ""))))


def _paths(value: Any, path: str) -> Iterator[str]:
    """What went wrong on a busy machine is left out: which errors there were, and how many."""
    if isinstance(value, list):
        yield f"{path}[]"
        for each in value:
            if isinstance(each, (dict, list)):
                yield from _paths(each, f"{path}[]")
    elif isinstance(value, dict) and not path.endswith(("errors", "error_details")):
        for name, each in value.items():
            yield from _paths(each, f"{path}.{name}")
    else:
        yield path


def _cursor(found: re.Match[str]) -> str:
    """It is a time in milliseconds, and a number."""
    text = base64.urlsafe_b64decode(found[0] + "==").decode()
    _, _, number = text.partition(":")
    return base64.urlsafe_b64encode(f"{NOON_S}000:{number}".encode()).decode().rstrip("=")


def _hour(found: re.Match[str]) -> str:
    """Something is so many hours after noon; the recording takes less than one."""
    after_s = int(found[0][:10]) - NOON_S
    if after_s < 0 or after_s % 3600 > 1800:
        return found[0]
    return f"{NOON_S + after_s // 3600 * 3600}{'000' if found[1] else ''}"


def _noon(found: re.Match[str]) -> str:
    fraction = "." + "0" * (len(found[3]) - 1) if found[3] else ""
    return f"{found[1]}{found[2]}12:00:00{fraction}"
