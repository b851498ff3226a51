"""`merino config`."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

import click

from merino.cli.options import config_option, config_path, json_option, unread_data_option
from merino.cli.output import print_fields, print_json


@click.group("config")
def command() -> None:
    """Check a settings file."""


@command.command("check")
@config_option
@unread_data_option
@json_option
def check(config: Path | None, as_json: bool) -> None:
    """Say what is wrong with the settings: file, line and the way out; exit code 2 if anything.

    Environment variables and referenced files are checked too.
    """
    from merino.offer import offer_of
    from merino.settings import load

    path = config_path(config)
    settings = load(path, os.environ)
    offer = offer_of(settings, os.environ)
    catalog = offer.catalog
    warnings = [*settings.warnings, *offer.unpriced_warnings(int(time.time() * 1000))]
    for warning in warnings:
        sys.stderr.write(f"merino: warning: {warning}\n")
    if as_json:
        print_json(
            {
                "ok": True,
                "file": None if path is None else str(path),
                "warnings": warnings,
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
