"""`merino completion`."""

from __future__ import annotations

import click
from click.shell_completion import ShellComplete, get_completion_class

from merino.cli import COMPLETE_VARIABLE
from merino.cli.output import write

SHELLS = ("bash", "zsh", "fish")


@click.command("completion")
@click.argument("shell", type=click.Choice(SHELLS))
def command(shell: str) -> None:
    """Print the script that lets SHELL complete commands, options, and names with Tab.

    Names are those of the data folder: accounts, keys, models, deployments, and so on.

    Bash: put `eval "$(merino completion bash)"` into ~/.bashrc. Zsh: the same with zsh in ~/.zshrc,
    after compinit. Fish: write it to ~/.config/fish/completions/merino.fish.
    """
    from merino.cli.root import root

    made = get_completion_class(shell)
    assert made is not None
    # Not its own `source`, which runs the shell to ask how old it is.
    write(ShellComplete.source(made(root, {}, "merino", COMPLETE_VARIABLE)).rstrip("\n"))
