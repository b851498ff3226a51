"""From a TOML file and environment variables to `Settings`, or to the list of all that is wrong."""

from __future__ import annotations

import difflib
import json
import math
import re
import tomllib
import types
import typing
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import MISSING, Field, dataclass, fields, replace
from decimal import Decimal, InvalidOperation
from functools import partial
from pathlib import Path
from typing import Any, Literal, cast

import msgspec

from merino.domain.errors import Misconfigured
from merino.domain.money import format_nanos, parse_nanos
from merino.settings.checks import check
from merino.settings.credentials import is_reference, read_secret
from merino.settings.problems import Problem, dotted
from merino.settings.toml_lines import LineOf
from merino.settings.toml_lines import Path as KeyPath
from merino.settings.tree import Settings

FILE_BYTES_MAX = 4 * 1024 * 1024
ENVIRONMENT_PREFIX = "MERINO_"
_SYNTAX_ERROR_LINE = re.compile(r" \(at (?:line (\d+), column \d+|end of document)\)$")
_HIDDEN = "[hidden]"


def load(path: Path | None, environ: Mapping[str, str], *, needs_secrets: bool = True) -> Settings:
    """Read the file (none: the defaults), apply `MERINO_SECTION__KEY` variables, check everything.

    Who needs no secrets need not have them: then nobody looks whether references lead to any.
    Raises `Misconfigured` with one line per problem.
    """
    text, document = _read(path) if path is not None else ("", {})
    tree = Reading(folder=(path or Path()).absolute().parent)
    settings = tree.section(Settings, document, ())
    overrides, stray = _overrides(environ)
    settings = tree.overridden(settings, overrides)
    look_up = partial(read_secret, folder=tree.folder, environ=environ)
    checked = check(settings, look_up if needs_secrets else is_reference)
    # A value that could not be read was replaced by its default; don't judge that too.
    unread = {problem.path for problem in tree.problems}
    problems = [
        *tree.problems,
        *stray,
        *(problem for problem in checked.problems if problem.path not in unread),
    ]
    if problems:
        raise Misconfigured("\n".join(_report(problems, path, text)))
    return replace(settings, path=path, warnings=tuple(_report(checked.warnings, path, text)))


def _read(path: Path) -> tuple[str, dict[str, Any]]:
    try:
        with path.open("rb") as file:
            raw = file.read(FILE_BYTES_MAX + 1)
    except FileNotFoundError:
        raise Misconfigured(f"{path}: no such file; give the settings file's path") from None
    except (OSError, ValueError) as error:
        reason = (error.strerror if isinstance(error, OSError) else None) or str(error)
        raise Misconfigured(f"{path}: cannot be read: {reason}") from None
    if len(raw) > FILE_BYTES_MAX:
        raise Misconfigured(f"{path}: longer than {FILE_BYTES_MAX} bytes; is this the right file?")
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        raise Misconfigured(f"{path}:{line}: not UTF-8 text; save the file as UTF-8") from None
    try:
        return text, tomllib.loads(text, parse_float=Decimal)
    except RecursionError:
        raise Misconfigured(f"{path}: nested too deeply") from None
    except (ValueError, ArithmeticError) as error:
        match = _SYNTAX_ERROR_LINE.search(str(error))
        line = (match and match[1]) or text.rstrip().count("\n") + 1
        reason = _SYNTAX_ERROR_LINE.sub("", str(error))
        raise Misconfigured(f"{path}:{line}: not valid TOML: {reason}") from None


_ELSEWHERE = {
    "api_key": "credential",
    "apikey": "credential",
    "key": "credential",
    "token": "credential",
    "api_base": "base_url",
    "endpoint": "base_url",
    "url": "base_url",
    "model": "upstream_model",
    "model_name": "upstream_model",
    "type": "provider",
    "timeout": "answer_timeout_s",
    "max_tokens": "output_tokens_max",
    "models": "deployments",
}
"""What other gateways and clients call some of our settings."""


def _meant(key: str, declared: Collection[str]) -> str:
    """What to write instead of a setting that there is not."""
    meant = _ELSEWHERE.get(key.lower())
    if meant not in declared:
        meant = next(iter(difflib.get_close_matches(key, declared, n=1)), None)
    return f"did you mean {meant}?" if meant else f"known: {', '.join(declared)}"


@dataclass
class Reading:
    """Walks the tree of settings beside a document, and goes on after what it cannot read."""

    folder: Path

    def __post_init__(self) -> None:
        self.problems: list[Problem] = []

    def section(self, kind: type[Any], table: Any, path: KeyPath) -> Any:
        if not isinstance(table, dict):
            self._refuse(path, table, "expected a table", f"write [{dotted(path)}]")
            return kind()
        found = cast("dict[str, Any]", table)
        declared = {key_of(each): each for each in settable(kind)}
        for key in found:
            if key not in declared:
                self._refuse((*path, key), None, "unknown setting", _meant(key, declared))
        hints = typing.get_type_hints(kind, include_extras=True)
        values: dict[str, Any] = {}
        for key, each in declared.items():
            if key not in found:
                if each.metadata.get("required"):
                    self._refuse((*path, key), None, "missing", f"give the {path[0]} a {key}")
                continue
            value = self._member(each, hints[each.name], found[key], (*path, key))
            if value is not MISSING:
                values[each.name] = value
        return kind(**values)

    def overridden(self, settings: Settings, overrides: Iterable[_Override]) -> Settings:
        for override in overrides:
            settings = self._override(settings, override, override.keys)
        return settings

    def _override(self, section: Any, override: _Override, keys: tuple[str, ...]) -> Any:
        kind = cast("type[Any]", type(section))
        declared = {key_of(each): each for each in settable(kind)}
        each = declared.get(keys[0])
        if each is None:
            near = difflib.get_close_matches(keys[0], declared, n=1)
            way_out = f"did you mean {near[0]}?" if near else f"known: {', '.join(declared)}"
            self.problems.append(
                Problem((), None, f"unknown setting; {way_out}", variable=override.variable)
            )
            return section
        hint = typing.get_type_hints(kind, include_extras=True)[each.name]
        present = getattr(section, each.name)
        if each.metadata.get("sections") or each.metadata.get("named_sections"):
            message = "cannot be set from the environment; write it in the settings file"
            self.problems.append(Problem((), None, message, variable=override.variable))
            return section
        if hasattr(present, "__dataclass_fields__"):
            if len(keys) == 1:
                message = f"is a table; name one of its settings: {override.variable}__..."
                self.problems.append(Problem((), None, message, variable=override.variable))
                return section
            return replace(section, **{each.name: self._override(present, override, keys[1:])})
        if len(keys) > 1:
            message = f"{each.name} has nothing below it"
            self.problems.append(Problem((), None, message, variable=override.variable))
            return section
        before = len(self.problems)
        value = self._member(each, hint, _from_text(hint, override.text), override.keys)
        for problem in self.problems[before:]:
            problem.variable = override.variable
        return section if value is MISSING else replace(section, **{each.name: value})

    def _member(self, each: Field[Any], hint: Any, value: Any, path: KeyPath) -> Any:
        """One setting's value, or `MISSING` once the problem is noted."""
        metadata = each.metadata
        if kind := metadata.get("section"):
            return self.section(kind, value, path)
        if kind := metadata.get("sections"):
            if not isinstance(value, list):
                self._refuse(path, value, "expected an array of tables", f"write [[{path[0]}]]")
                return MISSING
            items = cast("list[Any]", value)
            return tuple(self.section(kind, item, (*path, i)) for i, item in enumerate(items))
        if kind := metadata.get("named_sections"):
            if not isinstance(value, dict):
                self._refuse(path, value, "expected a table", f"write [{path[0]}.NAME]")
                return MISSING
            tables = cast("dict[str, Any]", value)
            return {name: self.section(kind, item, (*path, name)) for name, item in tables.items()}
        if hasattr(hint, "__dataclass_fields__"):
            return self.section(hint, value, path)
        try:
            return self._leaf(each, hint, value)
        except (ValueError, OverflowError) as error:
            shown = _HIDDEN if metadata.get("secret") else value
            self._refuse(path, shown, _message(error), _default_of(each))
            return MISSING

    def _leaf(self, each: Field[Any], hint: Any, value: Any) -> Any:
        base, bounds = unwrapped(hint)
        if each.metadata.get("amount"):
            if isinstance(value, bool) or not isinstance(value, (int, str, Decimal)):
                raise ValueError("expected an amount")
            nanos = parse_nanos(value if isinstance(value, int) else str(value))
            if nanos < 0:
                raise ValueError("expected an amount that is not negative")
            return nanos
        if base is Decimal:
            return _decimal(value, bounds.get("ge", 0), bounds.get("le", math.inf))
        if base is Path:
            return self._path(msgspec.convert(value, str))
        if base == tuple[Path, ...]:
            return tuple(self._path(item) for item in msgspec.convert(value, list[str]))
        if typing.get_origin(base) is Literal and value not in typing.get_args(base):
            raise ValueError(f"expected one of {_choices(value, typing.get_args(base))}")
        if choices := _choices_of_items(base):
            for item in msgspec.convert(value, list[Any]):
                if item not in choices:
                    told = json.dumps(item, default=str)[:60]
                    raise ValueError(f"{told} is not one of {_choices(item, choices)}")
        if base is float and isinstance(value, Decimal):
            value = float(value)
            if not math.isfinite(value):
                raise ValueError("expected a finite number")
        if base == Mapping[str, str]:
            hint = dict[str, str]
        if base is str and isinstance(value, str) and "\0" in value:
            raise ValueError("has a NUL character")
        return msgspec.convert(value, hint)

    def _path(self, text: str) -> Path:
        if not text.strip() or "\0" in text:
            raise ValueError("expected a file name")
        return self.folder / Path(text).expanduser()

    def _refuse(self, path: KeyPath, value: Any, message: str, way_out: str = "") -> None:
        self.problems.append(Problem(path, value, f"{message}; {way_out}" if way_out else message))


def _choices_of_items(base: Any) -> tuple[Any, ...]:
    """What each item of a list may be, if only some words are known."""
    inner = typing.get_args(base)[:1]
    if typing.get_origin(base) in (tuple, list) and typing.get_origin(inner[0]) is Literal:
        return typing.get_args(inner[0])
    return ()


def _choices(value: object, choices: Sequence[Any]) -> str:
    """All of them, and the one that was probably meant."""
    told = ", ".join(json.dumps(choice) for choice in choices)
    words = [str(choice) for choice in choices]
    near = difflib.get_close_matches(value, words, n=1) if isinstance(value, str) else []
    return f"{told}; did you mean {json.dumps(near[0])}?" if near else told


@dataclass(frozen=True)
class _Override:
    variable: str
    keys: tuple[str, ...]
    text: str


def _overrides(environ: Mapping[str, str]) -> tuple[list[_Override], list[Problem]]:
    """Variables such as `MERINO_SERVER__PORT`; names without `__` are no settings."""
    found: list[_Override] = []
    stray: list[Problem] = []
    for variable, text in sorted(environ.items()):
        if not variable.startswith(ENVIRONMENT_PREFIX) or "__" not in variable:
            continue
        keys = tuple(variable.removeprefix(ENVIRONMENT_PREFIX).lower().split("__"))
        if all(keys):
            found.append(_Override(variable, keys, text))
        else:
            message = "not the name of a setting; write MERINO_SECTION__KEY"
            stray.append(Problem((), None, message, variable=variable))
    return found, stray


def _from_text(hint: Any, text: str) -> Any:
    """An environment variable's text as the value TOML would have given; the text if it is none."""
    base, _ = unwrapped(hint)
    if base is bool:
        return {"true": True, "1": True, "false": False, "0": False}.get(text.lower(), text)
    if base is int and re.fullmatch(r"[+-]?[0-9]{1,18}", text.strip()):
        return int(text)
    if base is float:
        try:
            return Decimal(text.strip())
        except InvalidOperation:
            return text
    if typing.get_origin(base) is tuple:
        return [item.strip() for item in text.split(",") if item.strip()]
    return text


def unwrapped(hint: Any) -> tuple[Any, dict[str, Any]]:
    """A hint without its bounds and without `None`, and the bounds msgspec does not check."""
    bounds: dict[str, Any] = {}
    if typing.get_origin(hint) in (typing.Union, types.UnionType):
        hint = next(each for each in typing.get_args(hint) if each is not type(None))
    if metadata := getattr(hint, "__metadata__", ()):
        bounds = dict(metadata[0].extra or {})
        hint = typing.get_args(hint)[0]
    return hint, bounds


def _decimal(value: Any, least: Any, most: Any) -> Decimal:
    if isinstance(value, bool) or not isinstance(value, (int, str, Decimal)):
        raise ValueError("expected a number")  # noqa: TRY004 - handled like any wrong value
    try:
        number = Decimal(value)
    except InvalidOperation:
        raise ValueError("expected a decimal number") from None
    if not number.is_finite() or not least <= number <= most:
        raise ValueError(f"expected a number from {least} to {most}")
    return number


def settable(kind: type[Any]) -> list[Field[Any]]:
    return [each for each in fields(kind) if "doc" in each.metadata]


def key_of(each: Field[Any]) -> str:
    """What a setting is called in the file."""
    return str(each.metadata.get("key", each.name))


def _default_of(each: Field[Any]) -> str:
    if each.default in (MISSING, None, "", ()) or each.metadata.get("required"):
        return ""
    return f"the default is {shown_default(each)}"


def shown_default(each: Field[Any]) -> str:
    """A default as it would be written in the file; nothing if there is none."""
    if each.default is MISSING or each.default is None:
        return ""
    if each.metadata.get("amount"):
        return json.dumps(format_nanos(cast("int", each.default)))
    if isinstance(each.default, Decimal):
        return json.dumps(str(each.default))
    return json.dumps(each.default)


def _message(error: Exception) -> str:
    text = str(error)
    return text[:1].lower() + text[1:]


def _report(problems: Iterable[Problem], file: Path | None, text: str) -> list[str]:
    """One line each, in the order of the file."""
    lines = LineOf(text)
    numbered = [(lines[problem.path], problem) for problem in problems]
    numbered.sort(key=lambda each: each[0])
    return [_worded(line, problem, file) for line, problem in numbered]


def _worded(line: int, problem: Problem, file: Path | None) -> str:
    if problem.variable is not None:
        where = f"environment: {problem.variable}"
    else:
        place = f"{file}:{line}" if line else f"{file or 'settings'}"
        where = f"{place}: {dotted(problem.path)}"
    return f"{where}{shown_value(problem.value)}: {problem.message}"


def shown_value(value: Any) -> str:
    """As it stands behind the setting's name in what is said of it."""
    if value is None:
        return ""
    if value == _HIDDEN:
        return f" = {_HIDDEN}"
    # A number with decimals is shown as it was written, not as the text it is kept as.
    is_number = isinstance(value, Decimal)
    text = str(value) if is_number else json.dumps(value, default=str, ensure_ascii=False)
    return f" = {text if len(text) <= 80 else text[:77] + '...'}"
