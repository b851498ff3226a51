"""`merino` itself: finds the command, and makes one line and an exit code of what goes wrong."""

from __future__ import annotations

import difflib
import importlib
import os
import re
import sys
import traceback
from collections.abc import Sequence
from typing import Any

import click

from merino.cli import BROKEN_PIPE_EXIT, COMPLETE_VARIABLE, INTERRUPTED_EXIT, USAGE_EXIT
from merino.cli.help import EXAMPLES, Help, add_examples, as_epilog
from merino.domain.errors import MerinoError

SECTIONS = {
    "Run a relay": {
        "init": "Write a settings file to begin with.",
        "serve": "Run a relay.",
        "status": "Say whether a relay runs, where, and how it is.",
        "stop": "Stop a running relay; its calls are finished first.",
        "logs": "Look at calls as they end, a line each.",
        "config": "Check a settings file.",
        "backup": "Back up a data folder while its relay runs.",
        "restore": "Restore a backup.",
        "import": "Come over from another relay.",
        "doctor": "Say why calls fail, and how to mend it.",
    },
    "Callers and their money": {
        "keys": "Issue and change the keys that callers use.",
        "accounts": "Open accounts, move money to and from them.",
        "topups": "Order credit that is paid for.",
        "vouchers": "Create codes that credit an account, once.",
        "rates": "Look at exchange rates, set them.",
        "admin-keys": "Issue and revoke the keys of operators.",
        "people": "Let customers of the portal in, or not.",
        "invitations": "Invite people to the portal.",
    },
    "What happened": {
        "report": "Sum calls up by day, alias, key, account, end user, tag.",
        "reconcile": "Compare the books with a provider's bill, and say why they differ.",
        "sla": "Look at a month's service level, give back for a missed one.",
        "calls": "Look at calls.",
        "entries": "Look at ledger entries.",
        "ledger": "Verify and export the books.",
        "deployments": "Look at where calls go, add to it.",
        "aliases": "Look at the names of models, add to them.",
        "prices": "Look at the price book.",
        "metrics": "A Grafana dashboard and alerting rules for the relay.",
    },
    "With any server": {
        "batch": "Send many calls from a file.",
        "bench": "Measure latency and throughput of any endpoint.",
        "roi": "What a workload costs directly and through a relay.",
    },
    "Your shell": {
        "completion": "Complete commands and options with Tab.",
    },
}
"""By what one wants to do. Each is a module beside this one, with a click command called `command`.
"""
COMMANDS = {name: doc for section in SECTIONS.values() for name, doc in section.items()}


_AS_NEAR = 0.1
_NOT_ONE_OF = re.compile(r"'([^']*)' is not one of (.+)")
_MEANT = {
    "delete": ("disable", "revoke"),
    "remove": ("disable", "revoke"),
    "rm": ("disable", "revoke"),
    "revoke": ("revoke", "disable"),
    "add": ("create",),
    "new": ("create",),
    "ls": ("list",),
    "get": ("show",),
    "edit": ("update",),
    "set": ("update",),
    "topup": ("credit",),
}
"""What other programs call it, and what it may be called here, the best first."""
_TOP_LEVEL_MEANT = {
    "health": "status",
    "ps": "status",
    "log": "logs",
    "tail": "logs -f",
    "kill": "stop",
    "shutdown": "stop",
    "setup": "init",
    "new": "init",
    "completions": "completion",
    "start": "serve",
    "run": "serve",
    "verify": "ledger verify",
    "check": "config check",
    "usage": "report",
    "stats": "report",
    "models": "prices list",
    "balance": "accounts list",
}


class LazyGroup(click.Group):
    """Imports a command's module only when that command runs."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        command = importlib.import_module(f"merino.cli.{cmd_name.replace('-', '_')}").command
        add_examples(command, cmd_name)
        if COMPLETE_VARIABLE in os.environ:
            from merino.cli.completing import offer_names

            offer_names(command, cmd_name)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        width = max(map(len, COMMANDS))
        for title, commands in SECTIONS.items():
            with formatter.section(title):
                formatter.write_dl([(name.ljust(width), doc) for name, doc in commands.items()])


def _show_version(ctx: click.Context, _: click.Parameter, is_asked: bool) -> None:
    if is_asked and not ctx.resilient_parsing:
        from merino import __version__

        click.echo(f"merino {__version__}")
        ctx.exit()


# Of every command, however it is made.
click.Context.formatter_class = Help


@click.group(
    cls=LazyGroup,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog=as_epilog(EXAMPLES[""]),
)
@click.option(
    "--version",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=_show_version,
    help="Show the version and exit.",
)
def root() -> None:
    """A self-hosted, OpenAI-compatible relay with exact money.

    The administrative commands work on a data folder, whether or not a relay runs on it.
    """


def complete(instruction: str) -> int:
    """What a shell asks when Tab is pressed; it tells the line by variables."""
    from click.shell_completion import shell_complete

    return shell_complete(root, {}, "merino", COMPLETE_VARIABLE, instruction)


def run(arguments: Sequence[str]) -> int:
    """Run a command line; its exit code. Without a word it is asked what there is."""
    arguments = list(arguments) or ["--help"]
    try:
        # Not `root.main`: it would print a line of its own for Ctrl-C and a closed pipe.
        with root.make_context("merino", list(arguments)) as context:
            result: Any = root.invoke(context)
    except click.exceptions.Exit as end:
        return end.exit_code
    except click.exceptions.NoArgsIsHelpError as error:
        error.show()
        return USAGE_EXIT
    except click.exceptions.NoSuchCommand as error:
        return _fail(_no_such_command(error))
    except click.UsageError as error:
        path = error.ctx.command_path if error.ctx is not None else "merino"
        return _fail(f"{_refusal(error)} Try '{path} --help'.")
    except click.ClickException as error:
        return _fail(error.format_message())
    except (click.Abort, KeyboardInterrupt):
        return INTERRUPTED_EXIT
    except BrokenPipeError:
        return BROKEN_PIPE_EXIT
    except MerinoError as error:
        return _fail(error.message)
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        return _fail(f"{where}{error.strerror or error}")
    except Exception as error:  # noqa: BLE001 - the rim: users get a line, never a traceback
        if os.environ.get("MERINO_DEBUG"):
            traceback.print_exc()
        return _fail(f"internal error: {type(error).__name__}: {error}. MERINO_DEBUG=1 tells more.")
    return result if isinstance(result, int) else 0


def _refusal(error: click.UsageError) -> str:
    """With the word that was probably meant, of the options there are or of what one takes."""
    if isinstance(error, click.NoSuchOption):
        wanted, choices = error.option_name, [*(error.possibilities or ())]
        message = f"No such option '{wanted}'"
    else:
        message = error.format_message().rstrip(".")
        found = _NOT_ONE_OF.search(message)
        wanted = found[1] if found else ""
        choices = re.findall(r"[^\s',]+", found[2]) if found else []
    near = difflib.get_close_matches(wanted, choices, n=1)
    return f"{message}. Did you mean '{near[0]}'?" if near else f"{message}."


def _no_such_command(error: click.exceptions.NoSuchCommand) -> str:
    """With the command that was probably meant: one that is spelt like it, or does it."""
    context = error.ctx
    path = context.command_path if context is not None else "merino"
    group = path.removeprefix("merino").strip()
    known: list[str] = []
    if context is not None and isinstance(context.command, click.Group):
        known = context.command.list_commands(context)
    meant = [each for each in _MEANT.get(error.command_name, ()) if each in known]
    meant = meant or _nearest(error.command_name, known)
    if not group and error.command_name in _TOP_LEVEL_MEANT:
        meant = [_TOP_LEVEL_MEANT[error.command_name]]
    hint = (
        f" Did you mean {' or '.join(repr(f'{path} {each}') for each in meant)}?" if meant else ""
    )
    return f"No such command '{error.command_name}'.{hint} Try '{path} --help'."


def _nearest(word: str, known: Sequence[str]) -> list[str]:
    """The one that is spelt most like it; a second one only if it is as near."""
    near = difflib.get_close_matches(word, known, n=2)
    ratios = [difflib.SequenceMatcher(None, each, word).ratio() for each in near]
    return [each for each, ratio in zip(near, ratios, strict=True) if ratio > ratios[0] - _AS_NEAR]


def _fail(message: str) -> int:
    for line in message.splitlines() or [""]:
        sys.stderr.write(f"merino: {line}\n")
    return USAGE_EXIT
