"""`merino init`."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import click

from merino.cli.options import DEFAULT_CONFIG
from merino.cli.output import write
from merino.domain.errors import Misconfigured
from merino.settings import KNOWN_PROVIDERS

SIMULATOR = "simulator"
OTHER = "other"
_CHOICES = (*(each.name for each in KNOWN_PROVIDERS), OTHER, SIMULATOR)
_OWN_MODEL = "llama-3.3-70b"
_MODELS = {
    "openai": "o3",
    "deepseek": "deepseek-chat",
    "openrouter": "openai/o3",
    "anthropic": "claude-opus-4-5",
    "gemini": "gemini-2.5-pro",
}
"""One of each provider's, to begin with."""
_FREE = "price = { input = 0, output = 0 }  # in dollars per million tokens; accounts pay it"
_PRICED = "# Its price is looked up by upstream_model, or by price_model."
_OWN_URL = "http://127.0.0.1:8000/v1"


@click.command("init")
@click.option(
    "--provider",
    "providers",
    type=click.Choice(_CHOICES),
    multiple=True,
    help="Where models come from; may be repeated. other: any OpenAI-compatible server (vLLM, "
    "Ollama). simulator: no real model.",
)
@click.option("--base-url", help=f"Of `other`, such as {_OWN_URL}.")
@click.option("--model", help=f"Of `other`, as that server calls it, such as {_OWN_MODEL}.")
@click.option("--host", help="Address to listen on; 127.0.0.1 is this machine only.")
@click.option("--port", type=click.IntRange(1, 65_535), help="Port to listen on.")
@click.option("--credit", help="What the first account begins with, in dollars.")
@click.option(
    "--output",
    type=click.Path(dir_okay=False, path_type=Path),
    default=DEFAULT_CONFIG,
    show_default=True,
    help="The file to write.",
)
@click.option("--force", is_flag=True, help="Write over a file that is there.")
@click.option("--yes", "-y", is_flag=True, help="Ask nothing; take the defaults.")
def command(
    *,
    providers: tuple[str, ...],
    base_url: str | None,
    model: str | None,
    host: str | None,
    port: int | None,
    credit: str | None,
    output: Path,
    force: bool,
    yes: bool,
) -> None:
    """Write a settings file to begin with, after a few questions.

    What is given by options is not asked. Without a terminal nothing is asked at all.
    """
    from merino.settings import load

    if output.exists() and not force:
        raise Misconfigured(f"{output} is there already; --force writes over it")
    asks = not yes and sys.stdin.isatty()
    if not providers:
        found = [each.name for each in KNOWN_PROVIDERS if os.environ.get(each.credential_variable)]
        default = found[0] if found else SIMULATOR
        if asks:
            said = click.prompt(
                "Where do models come from", default=default, type=click.Choice(_CHOICES)
            )
            providers = (said,)
        else:
            providers = tuple(found) or (SIMULATOR,)
    if OTHER in providers:
        base_url = base_url or _answer(asks, "Its base URL", _OWN_URL)
        model = model or _answer(asks, "The model, as it is called there", _OWN_MODEL)
    host = host or _answer(asks, "Address to listen on (0.0.0.0: all of this machine)", "127.0.0.1")
    port = port or int(_answer(asks, "Port", "8080", click.IntRange(1, 65_535)))
    credit = credit or _answer(asks, "Credit of the first account, in dollars", "5.00")
    text = settings_text(providers, base_url, model, host, port, credit)
    with TemporaryDirectory() as folder:
        # What was given may be at fault; a file that no relay reads helps nobody.
        tried = Path(folder, output.name)
        tried.write_text(text, encoding="utf-8")
        load(tried, os.environ, needs_secrets=False)
    output.write_text(text, encoding="utf-8")
    write(f"written to {output}")
    named = "" if output == DEFAULT_CONFIG else f" --config {output}"
    write(f"next: {_next(providers)}merino serve{named}")


def _answer(
    asks: bool, question: str, default: str, kind: click.ParamType[int] | None = None
) -> str:
    return str(click.prompt(question, default=default, type=kind)) if asks else default


def _next(providers: tuple[str, ...]) -> str:
    """The credentials that are not there yet."""
    return "".join(
        f"export {each.credential_variable}=...; "
        for each in KNOWN_PROVIDERS
        if each.name in providers and not os.environ.get(each.credential_variable)
    )


def settings_text(
    providers: tuple[str, ...],
    base_url: str | None,
    model: str | None,
    host: str,
    port: int,
    credit: str,
) -> str:
    """The file: what was chosen, and what is often wanted next as comments."""
    parts = [
        "# Settings of a Merino relay. Check them with: merino config check",
        "# All there are: docs/reference/settings.md. SIGHUP reads this file again.",
        "",
        "[server]",
        f"host = {json.dumps(host)}",
        f"port = {port}",
        "",
        "[credits]",
        "# What the first account begins with, in dollars.",
        f"start = {json.dumps(credit)}",
        "",
        "[log]",
        "# On a terminal each call is a line anyway; this writes one to the log as well.",
        "calls = false",
        "",
        *_models(providers, base_url, model),
        "# What the keys of each account may send together in a minute.",
        '# [limits.accounts."*"]',
        "# rpm = 600",
        "# tpm = 200000",
        "",
        "# Exact prompts and answers, kept with the call records.",
        "# [calls]",
        "# store_content = true",
        "",
    ]
    return "\n".join(parts)


def _models(providers: tuple[str, ...], base_url: str | None, model: str | None) -> list[str]:
    by_name = {each.name: each for each in KNOWN_PROVIDERS}
    known = [by_name[each] for each in dict.fromkeys(providers) if each in by_name]
    if OTHER in providers:
        lines = [*_deployment("own", base_url or _OWN_URL, model or _OWN_MODEL), _FREE, ""]
        for each in known:
            own = _deployment(each.name, each.base_url, _MODELS.get(each.name, "o3"))
            if each.dialect != "openai":
                own.append(f"provider = {json.dumps(each.dialect)}")
            lines += [*own, f'credential = "env:{each.credential_variable}"', _PRICED, ""]
        return lines
    lines = [
        f"# {each.name}: its models are offered while {each.credential_variable} is set."
        for each in known
    ]
    own = [*_deployment("own", _OWN_URL, _OWN_MODEL), 'credential = "env:OWN_API_KEY"', _FREE]
    return [
        *(lines or ["# No provider: the built-in simulator answers as o3, o4 and others."]),
        "# Deployments of your own replace them:",
        *(f"# {line}".rstrip() for line in own),
        "",
    ]


def _deployment(name: str, base_url: str, model: str) -> list[str]:
    return [
        f"[aliases.{json.dumps(model)}]",
        f"deployments = [{json.dumps(name)}]",
        "[[deployments]]",
        f"name = {json.dumps(name)}",
        f"base_url = {json.dumps(base_url)}",
        f"upstream_model = {json.dumps(model)}",
    ]
