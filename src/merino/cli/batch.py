"""`merino batch`: many calls from a file."""

from __future__ import annotations

import asyncio
import os
import signal
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from merino.cli.batch_told import batch_fields, batch_line, batch_step
from merino.cli.figures import counted
from merino.cli.offline_prices import OfflinePrices
from merino.cli.output import print_fields, print_json, write
from merino.cli.progress import show_progress
from merino.cli.terminal import is_shown
from merino.domain.errors import Misconfigured
from merino.domain.money import format_nanos, parse_nanos

if TYPE_CHECKING:
    from merino.batch.items import Checked, Item, Source
    from merino.batch.run import RunTerms
    from merino.batch.runner import Progress, Worst

FAILED_EXIT = 1
UNFINISHED_EXIT = 3
INTERRUPTED_EXIT = 130
_DEFAULT_BASE_URL = "http://127.0.0.1:8080/v1"
_REFRESH_S = 10.0
"""Between two lines where no bar can be drawn."""


@click.group("batch")
def command() -> None:
    """Send many calls from a file."""


@command.command("run")
@click.argument("source", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("-o", "--out", type=click.Path(dir_okay=False, path_type=Path), help="Results.")
@click.option("--errors", type=click.Path(dir_okay=False, path_type=Path), help="Failures.")
@click.option(
    "--format",
    "source_format",
    type=click.Choice(["jsonl", "text", "csv", "parquet"]),
    help="Of the file; by its name if left out. text: a prompt a line.",
)
@click.option("--model", help="The model of every call; needed for text, CSV and Parquet.")
@click.option("--prompt", help='Template for rows of CSV or Parquet: "Classify: {text}".')
@click.option("--base-url", envvar="MERINO_BASE_URL", default=_DEFAULT_BASE_URL, show_default=True)
@click.option("--concurrency", type=click.IntRange(1, 10_000), default=50, show_default=True)
@click.option("--rpm", type=click.IntRange(1), help="Requests per minute at most.")
@click.option("--tpm", type=click.IntRange(1), help="LLM tokens per minute at most.")
@click.option("--max-cost", help="Stop before all runs together could cost more.")
@click.option(
    "--price", help="input,output per million tokens, for models the price book does not have."
)
@click.option("--retries", type=click.IntRange(0, 20), default=5, show_default=True)
@click.option("--resume", is_flag=True, help="Go on where an earlier run ended.")
@click.option(
    "--changed",
    type=click.Choice(["keep", "again"]),
    help="With --resume, of items that ask for something else than when they were answered: keep "
    "those answers, or ask again. Refused if left out.",
)
@click.option("--in-order", is_flag=True, help="Write results in the order of the file.")
@click.option("--skip-bad", is_flag=True, help="Go on without lines that are none.")
@click.option("--dry-run", is_flag=True, help="Check and price the file; send nothing.")
@click.option("--quiet", is_flag=True, help="No progress.")
@click.option("--json", "as_json", is_flag=True, help="Print the summary as JSON.")
def run(source: Path, out: Path | None, errors: Path | None, **options: Any) -> int:
    """Send every call of a file and write its result, each exactly once.

    SOURCE holds lines of OpenAI's Batch format, plain prompts, or rows of CSV or Parquet. The key
    comes from MERINO_API_KEY or OPENAI_API_KEY. Ctrl-C finishes what runs; --resume goes on, also
    after a crash, and pays for nothing twice. What failed for a reason that may pass (no credit, a
    refused key, an outage) is asked for again.

    Exit codes: 0 all answered, 1 some failed, 2 nothing was sent, 3 some are left, 130 interrupted.
    """
    import uvloop

    from merino.batch.items import check

    items = _source(source, options)
    checked = check(items)
    if checked.problem_count and not options["skip_bad"]:
        more = checked.problem_count - len(checked.problems)
        lines = [*checked.problems, *([f"and {more} more"] if more else [])]
        raise Misconfigured("\n".join([*lines, "nothing was sent; mend them, or add --skip-bad"]))
    prices = OfflinePrices(options["price"])
    if options["dry_run"]:
        _dry_run(items, checked, prices, as_json=options["as_json"])
        return 0
    terms = _terms(prices, out or source.with_suffix(".out.jsonl"), errors, options)
    for option, path in (("--out", terms.out), ("--errors", terms.errors)):
        if path.exists() and path.samefile(source):
            raise click.UsageError(f"{option} {path} is the file of the calls; name another")
    is_quiet = options["quiet"] or options["as_json"]
    progress = uvloop.run(_run(items, checked, terms, is_quiet=is_quiet))
    _summary(progress, terms, bad_lines=checked.problem_count, as_json=options["as_json"])
    return _exit_code(progress)


def _exit_code(progress: Progress) -> int:
    if progress.left:
        return INTERRUPTED_EXIT if progress.was_interrupted else UNFINISHED_EXIT
    is_refused = progress.refused and progress.done > progress.good
    if is_refused:
        return UNFINISHED_EXIT  # a resumed run asks again
    return FAILED_EXIT if progress.failed_before or progress.done > progress.good else 0


def _source(path: Path, options: dict[str, Any]) -> Source:
    from merino.batch.items import TABLES, Format, Source, template_fields

    by_name: dict[str, Format] = {
        ".jsonl": "jsonl",
        ".json": "jsonl",
        ".csv": "csv",
        ".parquet": "parquet",
    }
    source_format: Format = options["source_format"] or by_name.get(path.suffix.lower(), "text")
    if source_format != "jsonl" and not options["model"]:
        raise click.UsageError(f"--model is needed for {source_format}")
    if source_format in TABLES:
        if not options["prompt"]:
            raise click.UsageError(
                f'--prompt is needed for {source_format}, e.g. --prompt "Classify: {{text}}"'
            )
        try:
            if not template_fields(options["prompt"]):
                raise ValueError("it names no column")
        except ValueError as error:
            raise click.UsageError(f"--prompt {options['prompt']!r}: {error}") from None
    return Source(path, source_format, options["model"], options["prompt"])


def _dry_run(source: Source, checked: Checked, prices: OfflinePrices, *, as_json: bool) -> None:
    from merino.batch.items import Item

    worst, unpriced, models = 0, 0, dict[str, int]()
    for number, item in enumerate(source.items()):
        if not isinstance(item, Item) or number in checked.bad:
            continue
        model = str(item.body["model"])
        models[model] = models.get(model, 0) + 1
        nanos = prices.worst_nanos(item.url, item.body)
        if nanos is None:
            unpriced += 1
        else:
            worst += nanos
    found = {
        "items": checked.items - len(checked.bad),
        "bad_lines": checked.problem_count,
        "models": models,
        "worst_case": format_nanos(worst),
        "items_without_price": unpriced,
    }
    if as_json:
        print_json(found)
        return
    bad = counted(checked.problem_count, "bad line")
    write(f"{counted(checked.items - len(checked.bad), 'item')}, {bad}")
    for model, count in sorted(models.items()):
        write(f"  {model}: {count:,}")
    write(f"costs at most {found['worst_case']}")
    if unpriced:
        have = "has" if unpriced == 1 else "have"
        write(f"{counted(unpriced, 'item')} {have} no price in the book; give --price input,output")


def _terms(
    prices: OfflinePrices, out: Path, errors: Path | None, options: dict[str, Any]
) -> RunTerms:
    from merino.batch.run import RunTerms

    api_key = os.environ.get("MERINO_API_KEY") or os.environ.get("OPENAI_API_KEY")
    if not api_key:
        raise Misconfigured("No API key: set MERINO_API_KEY (or OPENAI_API_KEY).")
    max_cost_nanos = _max_cost(options["max_cost"])
    errors = errors or out.with_name(f"{out.stem}.errors{out.suffix}")
    try:
        return RunTerms(
            base_url=options["base_url"].rstrip("/"),
            api_key=api_key,
            out=out,
            errors=errors,
            is_resumed=options["resume"],
            changed=options["changed"],
            in_order=options["in_order"],
            concurrency_max=options["concurrency"],
            retries=options["retries"],
            requests_per_minute=options["rpm"],
            tokens_per_minute=options["tpm"],
            max_cost_nanos=max_cost_nanos,
            worst=None if max_cost_nanos is None else _worst_of(prices),
            cost_of=lambda item, used, tier: prices.cost_nanos(item.body, used, tier),
        )
    except ValueError as error:
        raise click.UsageError(f"--base-url: {error}") from None


async def _run(source: Source, checked: Checked, terms: RunTerms, *, is_quiet: bool) -> Progress:
    from merino.batch.run import batch_run

    async with batch_run(source, checked, terms) as runner:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, runner.stop)
        progress = runner.progress
        showing = asyncio.create_task(
            show_progress(
                lambda: batch_step(progress, terms.max_cost_nanos),
                lambda: batch_line(progress),
                every_s=_REFRESH_S,
                is_quiet=is_quiet,
            )
        )
        try:
            return await runner.run()
        finally:
            showing.cancel()
            await asyncio.gather(showing, return_exceptions=True)


def _max_cost(text: str | None) -> int | None:
    if text is None:
        return None
    try:
        nanos = parse_nanos(text)
        if nanos <= 0:
            raise ValueError("must be above zero")
    except ValueError as error:
        raise click.UsageError(f"--max-cost {text!r}: {error}") from None
    return nanos


def _worst_of(prices: OfflinePrices) -> Worst:
    def worst(item: Item) -> int:
        nanos = prices.worst_nanos(item.url, item.body)
        if nanos is None:
            raise Misconfigured(
                f"--max-cost needs a price, and the book has none for {item.body['model']!r}; give "
                "--price input,output (per million tokens)"
            )
        return nanos

    return worst


def _summary(progress: Progress, terms: RunTerms, *, bad_lines: int, as_json: bool) -> None:
    found = {
        "items": progress.total,
        "done": progress.done,
        "succeeded": progress.good,
        "failed": progress.done - progress.good,
        "left": progress.left,
        "skipped": progress.skipped,
        "failed_before": progress.failed_before,
        "bad_lines": bad_lines,
        "input_tokens": progress.input_tokens,
        "output_tokens": progress.output_tokens,
        "cost": format_nanos(progress.spent_nanos),
        "cost_of_earlier_runs": format_nanos(progress.spent_before_nanos),
        "without_cost": progress.unpriced,
        "calls_per_s": round(progress.per_s, 2),
        "stopped_by_max_cost": progress.stopped_by_cost,
        "refused": progress.refused or None,
        "unwritten": progress.unwritten,
        "errors": progress.errors,
        "out": str(terms.out),
        "errors_file": str(terms.errors),
    }
    if as_json:
        print_json(found)
        return
    if is_shown():
        print_fields(batch_fields(progress, terms, bad_lines=bad_lines))
    else:
        write(batch_line(progress))
        if bad_lines:
            was = "was" if bad_lines == 1 else "were"
            write(f"{counted(bad_lines, 'bad line')} {was} left out")
    if progress.skipped and not is_shown():
        before = format_nanos(progress.spent_before_nanos)
        failed = f", {progress.failed_before:,} of them refused" if progress.failed_before else ""
        write(f"{progress.skipped:,} were done before, for {before}{failed}")
    if progress.left or progress.refused:
        why = "it was stopped"
        if progress.stopped_by_cost:
            why = "the budget is used up"
        elif progress.write_error:
            why = f"results cannot be written ({progress.write_error})"
        elif progress.gave_up:
            why = "nothing was answered for two minutes"
        elif progress.refused:
            why = f"every call would be refused ({progress.refused})"
        again = " (those that were refused are asked for again)" if progress.refused else ""
        write(f"{progress.left:,} are left, since {why}; go on with --resume{again}")
    if progress.unwritten:
        write(
            f"{progress.unwritten:,} answers came that could not be written; they are asked again"
        )
    if not is_shown():
        failures = f", failures in {terms.errors}" if progress.errors else ""
        write(f"results in {terms.out}{failures}")
