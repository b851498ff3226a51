"""`merino roi`."""

from __future__ import annotations

import os
import re
import shutil
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import click

from merino.cli.options import config_option, config_path, data_option, json_option
from merino.cli.output import write
from merino.cli.terminal import is_shown
from merino.domain.errors import InvalidCall, NotFound

if TYPE_CHECKING:
    from merino.roi import OfferedPrice, ReportFormat, UsageRow

MONTH_DAYS = 30
QUOTES_TIMEOUT_S = 15.0
EXPORT_BYTES_MAX = 512 * 1024 * 1024
LEDGER_CALLS_MAX = 5_000_000
_PLANNED = ("model", "input_tokens", "output_tokens")

_LAST = re.compile(r"([0-9]{1,5})([hdwm])\Z")
_LAST_DAYS = {"h": Fraction(1, 24), "d": Fraction(1), "w": Fraction(7), "m": Fraction(MONTH_DAYS)}


class Amount(click.ParamType[int]):
    """Dollars, kept as nano-dollars."""

    name = "dollars"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        if isinstance(value, int):
            return value
        from merino.exports.numbers import parse_amount

        try:
            return parse_amount(str(value))
        except ValueError as error:
            self.fail(str(error), param, ctx)


@click.command("roi")
@click.option("--model", help="The model, such as o3.")
@click.option("--input-tokens", help="Input tokens a month: 10M, 2.5k, 10000000.")
@click.option("--output-tokens", help="Output tokens a month, hidden reasoning included.")
@click.option(
    "--cached-share", default="0", show_default=True, help="Part of the input that is cached."
)
@click.option(
    "--reasoning-share",
    default="0",
    show_default=True,
    help="Part of the output that is hidden reasoning.",
)
@click.option(
    "--calls",
    type=click.IntRange(min=0),
    default=0,
    help="Calls a month, for fees per call and long contexts.",
)
@click.option("--tier", help="Service tier: batch, flex, priority.")
@click.option(
    "--relay",
    help="book: what accounts pay by this price book (the default; --from-ledger: what they were "
    "charged). guide: the packaged table of another relay's prices and claims. A URL: the prices "
    "that relay lists at its /models.",
)
@click.option(
    "--relay-key-env",
    default="MERINO_API_KEY",
    show_default=True,
    help="Variable with the key for a relay's URL.",
)
@click.option(
    "--against", help="Providers to compare with, by commas: openai, anthropic/claude-opus-4-5."
)
@click.option(
    "--months", type=click.IntRange(1, 600), default=12, show_default=True, help="How long."
)
@click.option(
    "--growth", default="0", show_default=True, help="Growth of the volume a month: 0.05 or 5%."
)
@click.option(
    "--hosting", type=Amount(), default=0, help="What hosting the relay costs a month, in dollars."
)
@click.option(
    "--people", type=Amount(), default=0, help="What running it costs a month in people's time."
)
@click.option("--setup", type=Amount(), default=0, help="What setting it up costs once.")
@click.option("--from-ledger", is_flag=True, help="Price the real calls of a data folder.")
@click.option(
    "--last",
    default="30d",
    show_default=True,
    help="With --from-ledger: how far back, such as 30d, 12h, 4w.",
)
@click.option("--account", help="With --from-ledger: only this account, by name or id.")
@click.option(
    "--from-openai-export",
    "export",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Price a usage export of OpenAI (CSV or JSON).",
)
@click.option(
    "--format",
    "form",
    type=click.Choice(["table", "json", "csv", "html", "md"]),
    default="table",
    show_default=True,
    help="What to print.",
)
@click.option(
    "--output",
    type=click.Path(dir_okay=False, path_type=Path),
    help="A file to write, instead of standard output.",
)
@config_option
@data_option
@json_option
def command(
    *,
    form: ReportFormat,
    output: Path | None,
    config: Path | None,
    as_json: bool,
    **given: Any,
) -> None:
    """What a workload costs directly and through a relay, and when that pays.

    The tokens of a month are given (--model, --input-tokens, --output-tokens), or come from real
    calls (--from-ledger) or from an export (--from-openai-export). With nothing given, the calls of
    the data folder are priced, if there is one. --json is --format json.
    """
    from merino.pricing.book import PriceBook
    from merino.roi import Horizon, parse_growth, render, study
    from merino.settings import load

    _refuse_mixed(given)
    horizon = Horizon(
        months=given["months"],
        growth=parse_growth(given["growth"]),
        hosting_nanos=given["hosting"],
        people_nanos=given["people"],
        setup_nanos=given["setup"],
    )
    settings = load(config_path(config), os.environ, needs_secrets=False)
    book = PriceBook.load(settings.prices.files, account_factor=settings.prices.markup.factor)
    workload = _workload(given)
    relay: str = given["relay"] or workload.relay
    found = study(
        workload.rows,
        book,
        relay=relay,
        against=[each.strip() for each in (given["against"] or "").split(",") if each.strip()],
        quotes=_quotes(relay, given["relay_key_env"]) if "://" in relay else None,
        horizon=horizon,
        months_in_rows=workload.months,
    )
    form = "json" if as_json else form
    width = shutil.get_terminal_size().columns
    is_bounded = output is None and is_shown()
    _put(render(found, form, width=min(100, width), is_bounded=is_bounded), output)


class _Workload(NamedTuple):
    """`relay`: what is set beside direct calls unless something is named."""

    rows: tuple[UsageRow, ...]
    months: Fraction
    relay: str


def _workload(given: dict[str, Any]) -> _Workload:
    from merino.roi import (
        AS_CHARGED,
        Scenario,
        parse_share,
        parse_tokens,
        read_usage_export,
    )
    from merino.roi.offers import BOOK

    if given["from_ledger"]:
        days = _days(given["last"])
        rows = _ledger_rows(given["data"], days, given["account"])
        return _Workload(rows, days / MONTH_DAYS, AS_CHARGED)
    export: Path | None = given["export"]
    if export is not None:
        exported = read_usage_export(_text_of(export), export.name)
        return _Workload(exported.rows, exported.months, BOOK)
    planned = Scenario(
        model=given["model"],
        input_tokens=parse_tokens(given["input_tokens"], "--input-tokens"),
        output_tokens=parse_tokens(given["output_tokens"], "--output-tokens"),
        cached_share=parse_share(given["cached_share"], "--cached-share"),
        reasoning_share=parse_share(given["reasoning_share"], "--reasoning-share"),
        calls=given["calls"],
        tier=given["tier"],
    )
    return _Workload(planned.rows(), Fraction(1), BOOK)


def _put(text: str, output: Path | None) -> None:
    if output is None:
        write(text.rstrip("\n"))
    else:
        output.write_text(text, encoding="utf-8")
        write(f"written to {output}")


def _refuse_mixed(given: dict[str, Any]) -> None:
    """The tokens are planned or they are real, and all three figures make a plan."""
    context = click.get_current_context()
    from_ledger, export = given["from_ledger"], given["export"]
    planned = {f"--{name.replace('_', '-')}": given[name] for name in _PLANNED}
    if not from_ledger and export is None and not any(planned.values()) and _has_folder(given):
        given["from_ledger"] = True  # one's own traffic says more than any plan
        return
    if from_ledger and export is not None:
        raise click.UsageError("Give --from-ledger or --from-openai-export, not both.", context)
    if not from_ledger and export is None:
        if missing := [name for name, value in planned.items() if value is None]:
            raise click.UsageError(f"Missing option {', '.join(missing)}.", context)
    elif extra := [name for name, value in planned.items() if value is not None]:
        raise click.UsageError(f"{', '.join(extra)} cannot go with real usage.", context)


def _has_folder(given: dict[str, Any]) -> bool:
    return (given["data"] / "merino.db").is_file()


def _days(last: str) -> Fraction:
    match = _LAST.match(last)
    days = int(match[1]) * _LAST_DAYS[match[2]] if match else Fraction(0)
    if not days:
        raise InvalidCall(f"--last: {last!r} is not a time such as 30d, 12h or 4w", param="last")
    return days


def _ledger_rows(data: Path, days: Fraction, account: str | None) -> tuple[UsageRow, ...]:
    from datetime import UTC, datetime, timedelta

    from merino.cli.booked import called_model, tier_of, used_by
    from merino.cli.connection import with_admin
    from merino.roi import UsageRow

    since = datetime.now(UTC) - timedelta(seconds=float(days * 86_400))
    query = {"since": since.isoformat().replace("+00:00", "Z"), "account": account}
    page = with_admin(data, lambda admin: admin.list("/calls", query=query, limit=LEDGER_CALLS_MAX))
    rows = [
        UsageRow(
            called_model(call),
            used_by(call),
            calls=1,
            tier=tier_of(call),
            charged_nanos=_charged_dollars(call),
        )
        for call in page["data"]
        if call["charged_nanos"] or call["input_tokens"] or call["output_tokens"]
    ]
    if not rows:
        raise NotFound(f"There are no calls with usage in the last {float(days):g} days")
    return tuple(rows)


def _charged_dollars(call: dict[str, Any]) -> int:
    """What an account in another currency paid, back in dollars at the very rate it paid at."""
    from merino.pricing.margin import rate_in

    rate = rate_in(str(call["price_id"] or ""))
    if rate is None:
        return int(call["charged_nanos"])
    per_dollar = Fraction(rate.partition("=")[2].partition("@")[0])
    return round(call["charged_nanos"] / per_dollar)


def _text_of(export: Path) -> str:
    from merino.exports.tables import export_text

    if export.stat().st_size > EXPORT_BYTES_MAX:
        raise InvalidCall(f"{export} is larger than {EXPORT_BYTES_MAX >> 20} MiB")
    return export_text(export.read_bytes(), export.name)


def _quotes(url: str, key_env: str) -> dict[str, OfferedPrice]:
    """The prices a relay lists at its `/models`."""
    import httpx2

    from merino.roi import quotes_of

    address = url.rstrip("/")
    if not address.startswith(("http://", "https://")):
        raise InvalidCall(f"relay: {url!r} must begin with http:// or https://", param="relay")
    address += "" if address.endswith("/models") else "/models"
    key = os.environ.get(key_env)
    headers = {"authorization": f"Bearer {key}"} if key else {}
    try:
        with httpx2.Client(timeout=QUOTES_TIMEOUT_S, follow_redirects=False) as client:
            answer = client.get(address, headers=headers)
            content: object = answer.json() if answer.status_code == 200 else None
    except (httpx2.HTTPError, httpx2.InvalidURL) as error:
        reason = str(error) or type(error).__name__
        raise InvalidCall(f"relay: {address} did not answer: {reason}", param="relay") from None
    except UnicodeEncodeError:
        raise InvalidCall(f"{key_env}: the key has characters that no key has") from None
    except (ValueError, RecursionError):
        raise InvalidCall(f"relay: {address} did not answer with JSON", param="relay") from None
    if content is None:
        hint = f"; put its key into {key_env}" if answer.status_code in (401, 403) else ""
        raise InvalidCall(
            f"relay: {address} answered with status {answer.status_code}{hint}", param="relay"
        )
    quotes = quotes_of(content, address)
    if not quotes:
        raise InvalidCall(
            f"relay: {address} lists no prices (expected `pricing` with prompt and completion, or "
            "input_cost_per_token)",
            param="relay",
        )
    return quotes
