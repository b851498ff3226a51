"""The command line reference in Markdown, from the commands: `python -m merino.cli.reference`."""

from __future__ import annotations

import sys
from collections.abc import Iterator

import click

from merino.cli.help import EXAMPLES
from merino.cli.root import COMMANDS, root

_HEAD = """\
# Command line

*Made from the code by `python -m merino.cli.reference`; a test keeps it fresh.*

The administrative commands work on a data folder (`--data`, `MERINO_DATA`, or `./merino-data`),
whether or not a relay runs on it: they speak to the running relay through `admin.sock` in that
folder, or open the folder themselves. Who can write to the folder needs no admin key.

Accounts and keys are given by name or id. Lists show the newest first, except accounts and keys,
which show the oldest first. With `--json`, standard output is JSON and nothing else.

| exit code | meaning |
|--:|---|
| 0 | done |
| 1 | `merino ledger verify` found a difference, `merino doctor` a problem |
| 2 | it could not be done; standard error says why, usually in one line |
| 3 | `merino status` or `merino stop`: no relay runs; `merino batch run`: some are left |
| 130 | interrupted with Ctrl-C |
| 141 | whoever read the output closed it |

On a terminal, tables are as wide as it is: texts are cut, columns that find no room are left out
and named, and where not even the rest fits, each thing stands below the other. Amounts are rounded
to the cent, or to three digits below one, and summed up for each currency; keys and accounts stand
with their names. In a pipe or a file, everything is whole and as programs expect it. `NO_COLOR`,
`FORCE_COLOR`, `COLUMNS` and `TERM=dumb` are heeded.

`MERINO_DEBUG=1` shows the traceback of an internal error.
"""


def reference() -> str:
    """The whole page."""
    context = click.Context(root, info_name="merino")
    parts = [_HEAD]
    for name in COMMANDS:
        command = root.get_command(context, name)
        assert command is not None
        parts += _command(command, f"merino {name}", level=2)
    return "".join(parts)


def _command(command: click.Command, path: str, level: int) -> Iterator[str]:
    yield f"\n{'#' * level} `{path}`\n\n{_paragraphs(command.help or '')}\n"
    if isinstance(command, click.Group):
        for name, inner in command.commands.items():
            yield from _command(inner, f"{path} {name}", level + 1)
        return
    context = click.Context(command, info_name=path)
    arguments = [each for each in command.params if isinstance(each, click.Argument)]
    if arguments:
        names = " ".join(each.make_metavar(context) for each in arguments)
        yield f"\n```\n{path} {names} [OPTIONS]\n```\n"
    yield "\n| option | meaning |\n|---|---|\n"
    for each in command.params:
        record = each.get_help_record(context)
        if record is not None:
            option, meaning = (" ".join(text.split()).replace("|", "\\|") for text in record)
            yield f"| `{option}` | {meaning} |\n"
    if examples := EXAMPLES.get(path.removeprefix("merino ")):
        yield "\n```sh\n" + "\n".join(examples) + "\n```\n"


def _paragraphs(text: str) -> str:
    return "\n\n".join(" ".join(part.split()) for part in text.split("\n\n"))


if __name__ == "__main__":
    sys.stdout.write(reference())
