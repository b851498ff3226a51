"""`merino metrics`."""

from __future__ import annotations

import json

import click

from merino.cli.options import unread_data_option
from merino.cli.output import print_json, write


@click.group("metrics")
def command() -> None:
    """Files for the tools that watch a relay."""


@command.command("grafana")
@unread_data_option
@click.option("--json", expose_value=False, is_flag=True, help="Print JSON, which it is anyway.")
def grafana() -> None:
    """Print a Grafana dashboard over the relay's metrics, to import there."""
    from merino.telemetry.grafana import dashboard

    write(json.dumps(dashboard(), indent=2))


@command.command("alerts")
@unread_data_option
@click.option("--json", "as_json", is_flag=True, help="Print the rules as JSON.")
def alerts(*, as_json: bool) -> None:
    """Print alerting rules for Prometheus' rule_files, as YAML."""
    from dataclasses import asdict

    from merino.telemetry.alerts import RULES, rules_yaml

    if as_json:
        print_json({"data": [asdict(rule) for rule in RULES]})
    else:
        write(rules_yaml().rstrip("\n"))
