"""`merino config`."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import click

from merino.cli.options import config_option, config_path, data_option, json_option
from merino.cli.output import print_fields, print_json


@click.group("config")
def command() -> None:
    """Check a settings file."""


@command.command("check")
@config_option
@data_option
@json_option
def check(config: Path | None, data: Path, as_json: bool) -> None:  # noqa: ARG001 - every command takes --data
    """Say what is wrong with the settings: file, line and the way out; exit code 2 if anything.

    Environment variables and referenced files are checked too.
    """
    from merino.pricing.book import PriceBook
    from merino.settings import load, resolve

    path = config_path(config)
    settings = load(path, os.environ)
    book = PriceBook.load(settings.prices.files, account_factor=settings.prices.markup.factor)
    catalog = resolve(settings, os.environ, sorted(book.models))
    for warning in settings.warnings:
        sys.stderr.write(f"merino: warning: {warning}\n")
    if as_json:
        print_json(
            {
                "ok": True,
                "file": None if path is None else str(path),
                "warnings": list(settings.warnings),
                "deployments": [each.name for each in catalog.deployments],
                "aliases": [each.name for each in catalog.aliases],
                "is_simulated": catalog.is_simulated,
            }
        )
        return
    print_fields(
        [
            ("settings", path or "no file: the defaults"),
            ("deployments", ", ".join(each.name for each in catalog.deployments) or "none"),
            ("aliases", ", ".join(each.name for each in catalog.aliases) or "none"),
            ("simulated only", catalog.is_simulated),
            ("result", "fine"),
        ]
    )
