"""`merino serve`."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from merino.cli.call_lines import CallLines
from merino.cli.options import config_option, config_path, data_option
from merino.cli.terminal import terminal_of


@click.command("serve")
@config_option
@data_option
@click.option("--host", help="Address to listen on, instead of the file's.")
@click.option("--port", type=click.IntRange(0, 65_535), help="Port to listen on; 0: a free one.")
@click.option("--log-format", type=click.Choice(["text", "json"]), help="How to write log lines.")
@click.option(
    "--drill",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Make deployments fail as this TOML file says, to watch the relay cope.",
)
@click.option("--quiet", is_flag=True, help="No line per call on the terminal.")
def command(
    *,
    config: Path | None,
    data: Path,
    host: str | None,
    port: int | None,
    log_format: str | None,
    drill: Path | None,
    quiet: bool,
) -> int:
    """Run a relay until Ctrl-C or SIGTERM; running calls are finished first.

    Needs no settings: providers whose usual environment variable is set (OPENAI_API_KEY, ...) are
    offered, and the built-in simulator always. On a terminal there is a
    line for each call. SIGHUP reads the settings again; when its terminal is closed, the relay
    stops, unless it was started with nohup.
    """
    from merino.serving import serve

    terminal = terminal_of(sys.stdout)
    return serve(
        config=config_path(config),
        data=data,
        host=host,
        port=port,
        log_format=log_format,
        drill=drill,
        watch=None if quiet or terminal is None else CallLines(terminal),
    )
