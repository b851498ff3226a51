"""What is asked: scenarios from data files, prompt sets, and replayed traces."""

from __future__ import annotations

import base64
import math
import random
import tomllib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import Any, cast

import msgspec

from merino.domain.chance import chance_of

BUILT_IN = ("simple", "code", "proof", "image")
CHARS_PER_TOKEN = 4
"""What synthetic prompts are made by; the server's own count is what is reported."""
_BLOCK_TOKENS = 512
_LINES_MAX = 1_000_000
_WORDS = [
    "river",
    "stone",
    "market",
    "engine",
    "window",
    "garden",
    "letter",
    "winter",
    "copper",
    "signal",
    "orange",
    "bridge",
    "paper",
    "silver",
    "cloud",
    "motor",
    "valley",
    "candle",
    "harbor",
    "mirror",
    "pencil",
    "forest",
    "ladder",
    "basket",
    "meadow",
    "anchor",
]
_KNOWN = frozenset(
    ("description", "max_output_tokens", "think_s", "shared_prefix_tokens", "input_tokens",
     "output_tokens", "prompts", "body")
)  # fmt: skip
_KNOWN_PROMPT = frozenset(("system", "user", "image", "turns", "messages"))


Read = Callable[[str], bytes]
"""The content of a picture, by its name beside the scenario."""


class BadScenario(ValueError):
    """A file that is no scenario; says why and where."""


@dataclass(frozen=True, slots=True)
class Lengths:
    """A distribution of token counts: `constant`, `uniform` (min to max), `normal` or `lognormal`
    (by mean and standard deviation of the counts themselves), kept within min and max."""

    kind: str
    mean: float
    deviation: float = 0.0
    low: int = 1
    high: int = 1_000_000

    @classmethod
    def of(cls, value: object, where: str) -> Lengths:
        """From a number or a table. Raises `BadScenario`."""
        if isinstance(value, int) and value > 0:
            return cls("constant", value)
        if not isinstance(value, dict):
            raise BadScenario(f"{where} must be a number of tokens or a table")
        table = cast("dict[str, Any]", value)
        kind = str(table.get("distribution", "constant"))
        if kind not in ("constant", "uniform", "normal", "lognormal"):
            raise BadScenario(f"{where}.distribution: constant, uniform, normal or lognormal")
        try:
            low, high = int(table.get("min", 1)), int(table.get("max", 1_000_000))
            mean = float(table.get("mean", (low + high) / 2))
            deviation = float(table.get("deviation", 0.0))
        except (TypeError, ValueError):
            raise BadScenario(f"{where}: mean, deviation, min and max must be numbers") from None
        if not (1 <= low <= high and mean > 0 and deviation >= 0):
            raise BadScenario(f"{where}: needs 1 <= min <= max, mean > 0, deviation >= 0")
        return cls(kind, mean, deviation, low, high)

    def draw(self, chance: random.Random) -> int:
        if self.kind == "uniform":
            value = chance.uniform(self.low, self.high)
        elif self.kind == "normal":
            value = chance.gauss(self.mean, self.deviation)
        elif self.kind == "lognormal":
            # The underlying normal distribution that gives this mean and deviation.
            variance = math.log1p((self.deviation / self.mean) ** 2)
            value = chance.lognormvariate(math.log(self.mean) - variance / 2, math.sqrt(variance))
        else:
            value = self.mean
        return min(self.high, max(self.low, round(value)))


@dataclass(frozen=True, slots=True)
class Prompt:
    """What one call or session asks. `turns` are what the user says after each answer."""

    messages: tuple[Mapping[str, Any], ...]
    max_output_tokens: int | None = None
    turns: tuple[str, ...] = ()
    at_ms: float | None = None


@dataclass(frozen=True, slots=True)
class Scenario:
    """`prompts` are asked in turn. With `input_tokens` they are synthetic instead: words of that
    many tokens after a prefix that all share."""

    name: str
    description: str = ""
    prompts: Sequence[Prompt] = ()
    max_output_tokens: int | None = None
    input_tokens: Lengths | None = None
    output_tokens: Lengths | None = None
    shared_prefix_tokens: int = 0
    think_s: float = 0.0
    body: Mapping[str, Any] = field(default_factory=dict[str, Any])

    @property
    def timestamps_ms(self) -> list[float] | None:
        """When each prompt of a trace is due; `None` if this is no trace."""
        moments = [prompt.at_ms for prompt in self.prompts]
        if not moments or any(moment is None for moment in moments):
            return None
        return [moment for moment in moments if moment is not None]

    def asked(self, seed: int = 0, wording: str = "") -> Iterator[Prompt]:
        """Prompts without end. Their lengths are the same for the same `seed`, the words of
        synthetic ones for the same `seed` and `wording`: two wordings have no prefix in common, so
        that no cache of one serves the other."""
        chance = chance_of(seed)
        words = chance_of(f"{seed}{wording}")
        prefix = filler(self.shared_prefix_tokens, chance_of(f"{seed}{wording}prefix"))
        number = 0
        while True:
            if self.input_tokens is not None:
                text = filler(self.input_tokens.draw(chance), words)
                content = f"{prefix} {text}" if prefix else text
                prompt = Prompt(({"role": "user", "content": content},))
            else:
                prompt = self.prompts[number % len(self.prompts)]
                if prefix:
                    first: Mapping[str, Any] = {"role": "system", "content": prefix}
                    prompt = Prompt(
                        (first, *prompt.messages), prompt.max_output_tokens, prompt.turns
                    )
            limit = prompt.max_output_tokens or self.max_output_tokens
            if self.output_tokens is not None:
                limit = self.output_tokens.draw(chance)
            yield Prompt(prompt.messages, limit, prompt.turns, prompt.at_ms)
            number += 1


def filler(tokens: int, chance: random.Random) -> str:
    """Words that make about so many tokens."""
    words: list[str] = []
    length = 0
    while length < tokens * CHARS_PER_TOKEN:
        word = chance.choice(_WORDS)
        words.append(word)
        length += len(word) + 1
    return " ".join(words)


def load_scenario(name: str) -> Scenario:
    """A built-in scenario by name, or one from a ``.toml`` or ``.jsonl`` file. Raises
    `BadScenario`."""
    if name in BUILT_IN:
        folder = resources.files("merino.bench") / "scenarios"
        text = (folder / f"{name}.toml").read_text(encoding="utf-8")
        return _from_toml(name, text, lambda image: (folder / image).read_bytes())
    path = Path(name)
    if not path.is_file():
        raise BadScenario(f"{name!r} is neither one of {', '.join(BUILT_IN)} nor a file")
    try:
        if path.suffix == ".jsonl":
            return _from_jsonl(path)
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        raise BadScenario(f"{path} is not UTF-8") from None
    return _from_toml(path.stem, text, lambda image: (path.parent / image).read_bytes())


def _from_toml(name: str, text: str, read: Read) -> Scenario:
    try:
        table = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise BadScenario(f"{name}: not TOML: {error}") from None
    if unknown := set(table) - _KNOWN:
        raise BadScenario(
            f"{name}: unknown key {min(unknown)!r}; known: {', '.join(sorted(_KNOWN))}"
        )
    prompts = tuple(
        _prompt(each, f"{name}: prompts[{index}]", read)
        for index, each in enumerate(_tables(table.get("prompts", []), f"{name}: prompts"))
    )
    input_tokens = None
    if "input_tokens" in table:
        input_tokens = Lengths.of(table["input_tokens"], f"{name}: input_tokens")
    output_tokens = None
    if "output_tokens" in table:
        output_tokens = Lengths.of(table["output_tokens"], f"{name}: output_tokens")
    if not prompts and input_tokens is None:
        raise BadScenario(f"{name}: needs [[prompts]] or input_tokens")
    body: object = table.get("body", {})
    if not isinstance(body, dict):
        raise BadScenario(f"{name}: body must be a table")
    limit: object = table.get("max_output_tokens")
    if limit is not None and (not isinstance(limit, int) or limit < 1):
        raise BadScenario(f"{name}: max_output_tokens must be a number above zero")
    shared, think_s = table.get("shared_prefix_tokens", 0), table.get("think_s", 0.0)
    if not isinstance(shared, int) or shared < 0:
        raise BadScenario(f"{name}: shared_prefix_tokens must be a number of tokens")
    if not isinstance(think_s, int | float) or think_s < 0:
        raise BadScenario(f"{name}: think_s must be a number of seconds")
    return Scenario(
        name,
        str(table.get("description", "")),
        prompts,
        limit,
        input_tokens,
        output_tokens,
        shared,
        float(think_s),
        cast("dict[str, Any]", body),
    )


def _tables(value: object, where: str) -> list[dict[str, Any]]:
    if isinstance(value, list):
        items = cast("list[object]", value)
        if all(isinstance(item, dict) for item in items):
            return cast("list[dict[str, Any]]", items)
    raise BadScenario(f"{where} must be tables: [[prompts]]")


def _prompt(table: Mapping[str, Any], where: str, read: Read) -> Prompt:
    if unknown := set(table) - _KNOWN_PROMPT:
        raise BadScenario(f"{where}: unknown key {min(unknown)!r}")
    turns: object = table.get("turns", [])
    if not isinstance(turns, list) or not all(
        isinstance(turn, str) for turn in cast("list[object]", turns)
    ):
        raise BadScenario(f"{where}: turns must be texts")
    messages: list[Mapping[str, Any]] = list(table.get("messages", ()))
    if "system" in table:
        messages.append({"role": "system", "content": str(table["system"])})
    if "user" in table:
        content: Any = str(table["user"])
        if "image" in table:
            try:
                data = base64.b64encode(read(str(table["image"]))).decode()
            except OSError as error:
                raise BadScenario(f"{where}: image: {error.strerror}") from None
            kind = "jpeg" if str(table["image"]).lower().endswith((".jpg", ".jpeg")) else "png"
            content = [
                {"type": "text", "text": content},
                {"type": "image_url", "image_url": {"url": f"data:image/{kind};base64,{data}"}},
            ]
        messages.append({"role": "user", "content": content})
    if not messages:
        raise BadScenario(f"{where}: needs user or messages")
    return Prompt(tuple(messages), turns=tuple(cast("list[str]", turns)))


def _from_jsonl(path: Path) -> Scenario:
    """Lines with `messages`, `prompt` or `input_length`; `max_output_tokens` or `output_length`;
    with `timestamp` (milliseconds) on every line it is a trace. `hash_ids` are blocks of 512
    tokens: the same id gives the same text, so that caches can be hit."""
    prompts: list[Prompt] = []
    with path.open("rb") as file:
        for number, raw in enumerate(file, 1):
            if not raw.strip():
                continue
            if len(prompts) >= _LINES_MAX:
                raise BadScenario(f"{path} has more than {_LINES_MAX:,} lines")
            where = f"{path}:{number}"
            try:
                line = msgspec.json.decode(raw, type=dict[str, Any])
            except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
                raise BadScenario(f"{where}: not a JSON object: {error}") from None
            prompts.append(_from_line(line, where))
    if not prompts:
        raise BadScenario(f"{path} has no prompts")
    stamped = sum(prompt.at_ms is not None for prompt in prompts)
    if stamped not in (0, len(prompts)):
        raise BadScenario(f"{path}: {len(prompts) - stamped} lines have no timestamp, others do")
    if stamped:
        prompts.sort(key=lambda prompt: prompt.at_ms or 0.0)
    return Scenario(path.stem, prompts=tuple(prompts))


def _from_line(line: Mapping[str, Any], where: str) -> Prompt:
    limit: object = line.get("max_output_tokens", line.get("output_length"))
    if limit is not None and (not isinstance(limit, int) or limit < 1):
        raise BadScenario(f"{where}: max_output_tokens must be a number above zero")
    at_ms: object = line.get("timestamp")
    if at_ms is not None and not isinstance(at_ms, int | float):
        raise BadScenario(f"{where}: timestamp must be a number of milliseconds")
    turns = tuple(str(turn) for turn in cast("list[object]", line.get("turns", [])))
    messages: object = line.get("messages")
    if isinstance(messages, list) and messages:
        given = cast("list[Mapping[str, Any]]", messages)
        return Prompt(tuple(given), limit, turns, at_ms)
    text: object = line.get("prompt", line.get("text"))
    length: object = line.get("input_length")
    if text is None and isinstance(length, int) and 0 < length <= 10_000_000:
        text = _blocks(line.get("hash_ids", []), length, where)
    if not isinstance(text, str) or not text:
        raise BadScenario(f"{where}: needs messages, prompt or input_length")
    return Prompt(({"role": "user", "content": text},), limit, turns, at_ms)


def _blocks(ids: object, tokens: int, where: str) -> str:
    if not isinstance(ids, list):
        raise BadScenario(f"{where}: hash_ids must be a list")
    known = cast("list[object]", ids)
    blocks = [filler(_BLOCK_TOKENS, chance_of(f"block {each}")) for each in known]
    text = " ".join(blocks)[: tokens * CHARS_PER_TOKEN]
    missing = tokens - len(text) // CHARS_PER_TOKEN
    if missing > 0:
        text += " " + filler(missing, chance_of(where))
    return text
