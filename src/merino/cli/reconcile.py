"""`merino reconcile`."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import click

from merino.cli.columns import Column
from merino.cli.options import Month, admin_options, config_option, config_path
from merino.cli.output import in_dollars, print_json, print_table, write
from merino.domain.errors import InvalidCall, NotFound
from merino.domain.money import format_nanos, parse_nanos, with_sign

if TYPE_CHECKING:
    from merino.cli.connection import Admin
    from merino.pricing.price import Price
    from merino.reconcile import Own, OwnCall, Place, Reconciliation
    from merino.reconcile.report import Summed

PROVIDERS = ("openai", "anthropic", "openrouter", "other")
FILE_BYTES_MAX = 512 * 1024 * 1024
NANOS_PER_CENT = 10_000_000
UNEXPLAINED_NANOS_MAX = NANOS_PER_CENT
"""Up to a cent may stay without a reason."""
_PAGE = 500
_BEFORE = timedelta(days=1)
"""Calls that began so long before the month may have ended in it."""


class KeyOfDeployment(click.ParamType[tuple[str, str]]):
    """``PROVIDER'S-KEY=DEPLOYMENT``."""

    name = "key=deployment"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[str, str]:
        key, sign, deployment = str(value).partition("=")
        if not sign or not key.strip() or not deployment.strip():
            self.fail(f"{value!r}: write the provider's key, =, and a deployment", param, ctx)
        return key.strip(), deployment.strip()


@click.command("reconcile")
@click.argument(
    "files",
    nargs=-1,
    required=True,
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
)
@click.option(
    "--provider",
    type=click.Choice(PROVIDERS),
    required=True,
    help="Whose files they are. other: a CSV with a day, a model, tokens and a cost.",
)
@click.option(
    "--month", type=Month(), required=True, help="Which month (UTC): 2026-10, this, or last."
)
@click.option(
    "--deployment",
    "deployments",
    multiple=True,
    help="A deployment that this provider bills; may be repeated. Left out: all at its address.",
)
@click.option(
    "--key",
    "keys",
    type=KeyOfDeployment(),
    multiple=True,
    help="Which deployment uses which key of the provider, to compare by key; may be repeated.",
)
@click.option(
    "--format",
    "form",
    type=click.Choice(["table", "json", "csv"]),
    default="table",
    show_default=True,
    help="What to print. csv: a line for each day, model and key.",
)
@config_option
@admin_options
def command(
    *,
    files: tuple[Path, ...],
    provider: str,
    month: tuple[str, str],
    deployments: tuple[str, ...],
    keys: tuple[tuple[str, str], ...],
    form: str,
    config: Path | None,
    data: Path,
    as_json: bool,
) -> int:
    """Compare what the relay booked with what a provider billed, and say why they differ.

    FILES are the provider's own usage and costs: answers of its usage and cost APIs, or the CSV of
    its pages. Exit code 1 if more than a cent is left without a reason.
    """
    from merino.cli.connection import with_admin
    from merino.reconcile import as_csv, as_object, read_statement, reconcile

    labels, prices = _labels(keys), _prices(config)
    statement = read_statement(provider, [(file.name, _text_of(file)) for file in files])
    books = with_admin(
        data,
        lambda admin: _books(admin, month, provider, deployments, labels, prices),
    )
    found = reconcile(
        statement,
        books,
        (month[0][:10], month[1][:10]),
        {key: labels[deployment] for key, deployment in keys},
    )
    if as_json or form == "json":
        print_json({"provider_name": provider, **as_object(found)})
    elif form == "csv":
        write(as_csv(found).rstrip("\n"))
    else:
        _show(found, provider, has_keys=bool(keys))
    return 1 if abs(found.unexplained) > UNEXPLAINED_NANOS_MAX else 0


def _text_of(file: Path) -> str:
    from merino.exports.tables import export_text

    if file.stat().st_size > FILE_BYTES_MAX:
        raise InvalidCall(f"{file} is larger than {FILE_BYTES_MAX >> 20} MiB")
    return export_text(file.read_bytes(), file.name)


def _labels(keys: Sequence[tuple[str, str]]) -> dict[str, str]:
    """One name for all deployments that share a key. Raises `InvalidCall` if one has two keys."""
    by_key: dict[str, list[str]] = {}
    for key, deployment in keys:
        by_key.setdefault(key, []).append(deployment)
    labels: dict[str, str] = {}
    for key, names in by_key.items():
        for name in names:
            if name in labels:
                raise InvalidCall(f"--key: {name} is given two keys, one of them {key}")
            labels[name] = ", ".join(names)
    return labels


def _prices(config: Path | None) -> dict[str, Price]:
    from merino.pricing.book import PriceBook
    from merino.settings import load

    settings = load(config_path(config), os.environ, needs_secrets=False)
    book = PriceBook.load(settings.prices.files, account_factor=settings.prices.markup.factor)
    return {price.id: price for price in book.prices()}


async def _books(
    admin: Admin,
    month: tuple[str, str],
    provider: str,
    deployments: Sequence[str],
    labels: Mapping[str, str],
    prices: Mapping[str, Price],
) -> dict[Place, Own]:
    from merino.reconcile import add_call

    wanted = set(deployments) or await _deployments_at(admin, provider)
    since = (datetime.fromisoformat(month[0]) - _BEFORE).isoformat().replace("+00:00", "Z")
    books: dict[Place, Own] = {}
    cursor: str | None = None
    while True:
        query = {"since": since, "until": month[1], "limit": _PAGE, "cursor": cursor}
        page = await admin.ask("GET", "/calls", query=query)
        for call in page["data"]:
            for own in _of_call(call, wanted, labels, prices):
                add_call(books, own)
        cursor = page["next_cursor"]
        if cursor is None:
            return books


async def _deployments_at(admin: Admin, provider: str) -> set[str]:
    from merino.reconcile import HOSTS

    host = HOSTS.get(provider)
    if host is None:
        raise InvalidCall("name the provider's deployments with --deployment", param="deployment")
    listed = await admin.ask("GET", "/deployments")
    found = {
        str(each["name"])
        for each in listed["data"]
        if (urlsplit(str(each["base_url"])).hostname or "").endswith(host)
    }
    if not found:
        raise NotFound(f"No deployment is at {host}; name those it bills with --deployment")
    return found


def _of_call(
    call: Mapping[str, Any],
    wanted: set[str],
    labels: Mapping[str, str],
    prices: Mapping[str, Price],
) -> list[OwnCall]:
    """The call at the deployment that answered, and its failed attempts where they were made."""
    from merino.cli.booked import called_model, tier_of, used_by
    from merino.domain.call import HEDGE_LOST
    from merino.domain.usage import NO_USAGE
    from merino.reconcile import OwnAttempt, OwnCall

    at_ms = round(datetime.fromisoformat(call["at"]).timestamp() * 1000)
    ended_ms = at_ms + round(call["duration_ms"] or 0)
    model = called_model(call)
    failed: dict[str, list[OwnAttempt]] = {}
    lost = 0
    for each in call["attempts"]:
        if each["outcome"] == HEDGE_LOST:
            lost += parse_nanos(each["upstream"])
        if each["deployment"] in wanted:
            nanos = parse_nanos(each["upstream"])
            failed.setdefault(each["deployment"], []).append(OwnAttempt(each["outcome"], nanos))
    found: list[OwnCall] = []
    if call["deployment"] in wanted:
        found.append(
            OwnCall(
                at_ms,
                ended_ms,
                model,
                labels.get(call["deployment"], ""),
                used_by(call),
                call["upstream_nanos"] - lost,
                prices.get(str(call["price_id"] or "").partition("+")[0]),
                tier_of(call) or "",
                call["usage_source"],
                call["status"] < 400,
                tuple(failed.pop(call["deployment"], ())),
            )
        )
    found += [
        OwnCall(
            at_ms, ended_ms, model, labels.get(name, ""), NO_USAGE, 0, None, "", "none", False,
            tuple(attempts),
        )
        for name, attempts in failed.items()
    ]  # fmt: skip
    return found


_LINES = (
    Column("DAY", "day", whole=True),
    Column("MODEL", "model"),
    Column("KEY", "key", spare=2),
    Column("CALLS", "provider_calls", is_number=True, total="provider_calls"),
    Column("OURS", "relay_calls", is_number=True, total="relay_calls"),
    Column(
        "BILLED", in_dollars("provider"), is_number=True, total="provider_nanos", currency="USD"
    ),
    Column("BOOKED", in_dollars("relay"), is_number=True, total="relay_nanos", currency="USD"),
    Column(
        "DIFFERENCE",
        in_dollars("difference"),
        is_number=True,
        total="difference_nanos",
        currency="USD",
    ),
)


def _show(found: Reconciliation, provider: str, *, has_keys: bool) -> None:
    from merino.reconcile import as_object, summary

    told = as_object(found)
    difference = found.their_nanos - found.own_nanos
    calls = "" if found.their_calls is None else f" for {found.their_calls:,} calls"
    write(f"{provider} billed  {_dollars(found.their_nanos)}{calls}")
    write(f"the relay booked  {_dollars(found.own_nanos)} for {found.own_calls:,} calls")
    write(f"difference  {_dollars(difference, signed=True)}")
    causes = summary(found.differences)
    if causes:
        write("\nWhy they differ:")
        for each in causes:
            write(f"  {_dollars(each.nanos, signed=True):>12}  {_cause(each)}")
    if not any(each.cause == "unexplained" for each in causes):
        write("\nNothing is left without a reason.")
    apart = [each for each in told["lines"] if each["difference_nanos"]]
    if apart:
        write("\nWhere they differ:")
        columns = [each for each in _LINES if has_keys or each.value != "key"]
        print_table(apart, columns)
    if len(told["keys"]) > 1 and not has_keys:
        write("\nKeys the provider lists (say whose they are with --key KEY=DEPLOYMENT):")
        for each in told["keys"]:
            write(f"  {with_sign(each['cost'], 'USD'):>14}  {each['key']}")
    for note in found.notes:
        write(f"\nNote: {note}.")


def _cause(each: Summed) -> str:
    from merino.reconcile import CAUSES

    days = each.days[0] if len(each.days) == 1 else f"{len(each.days)} days from {each.days[0]}"
    where = f"{each.model} on {days}" if each.model else days
    about = f"{each.calls:,} " if each.calls and each.cause != "late" else ""
    why = f": {each.why}" if each.why else ""
    return f"{about}{CAUSES[each.cause]} ({where}){why}"


def _dollars(nanos: Fraction, *, signed: bool = False) -> str:
    """To the cent, or exactly below one."""
    cents = round(nanos / NANOS_PER_CENT)
    shown = with_sign(f"{cents / 100:,.2f}" if cents else format_nanos(round(nanos)), "USD")
    return f"+{shown}" if signed and nanos > 0 else shown
