"""Help: sections, and an example of each command that takes something."""

from __future__ import annotations

import sys
from collections.abc import Sequence

import click

from merino.cli.terminal import terminal_of

EXAMPLES: dict[str, tuple[str, ...]] = {
    "": ("merino serve", "merino keys create --name ada --spend-cap 5", "merino status"),
    "accounts create": (
        "merino accounts create --name research",
        "merino accounts create --name berlin --currency EUR --rpm 600",
    ),
    "accounts credit": (
        "merino accounts credit research 25.00 --memo 'invoice 17'",
        "merino accounts credit research 25.00 --idempotency-key invoice-17",
    ),
    "accounts debit": ("merino accounts debit research 2.50 --memo correction",),
    "accounts list": ("merino accounts list --sort available",),
    "accounts spending": ("merino accounts spending research",),
    "accounts statement": (
        "merino accounts statement research --month 2026-11 --format html --output november.html",
    ),
    "accounts transfer": ("merino accounts transfer research berlin 5.00",),
    "accounts update": (
        "merino accounts update research --spend-cap 100 --spend-period month",
        "merino accounts update research --rpm none",
    ),
    "admin-keys create": ("merino admin-keys create --name laptop",),
    "backup create": (
        "merino backup create /backups/merino --keep 96",
        "merino backup create /backups/merino --key-file backup.key",
    ),
    "backup list": ("merino backup list /backups/merino",),
    "backup prune": ("merino backup prune /backups/merino --keep 30",),
    "backup verify": ("merino backup verify /backups/merino --all",),
    "batch run": (
        "merino batch run prompts.jsonl --dry-run",
        "merino batch run prompts.jsonl --max-cost 5.00",
        "merino batch run rows.csv --model o3-mini --prompt 'Classify: {text}'",
        "merino batch run prompts.jsonl --resume",
    ),
    "bench compare": (
        (
            "merino bench compare --target a=http://127.0.0.1:8080/v1,o3 "
            "--target b=http://127.0.0.1:9000/v1,o3"
        ),
    ),
    "bench latency": (
        "merino bench latency --target relay=http://127.0.0.1:8080/v1,sim/o3 --requests 50",
    ),
    "bench sweep": (
        "merino bench sweep --target relay=http://127.0.0.1:8080/v1,sim/o3 --slo ttft_ms_p99=300",
    ),
    "bench throughput": (
        (
            "merino bench throughput --target relay=http://127.0.0.1:8080/v1,sim/o3 --rate 20 "
            "--duration 30"
        ),
    ),
    "calls list": (
        "merino calls list --status 429 --since 1h",
        "merino calls list --month last --sort charged",
        "merino calls list --key ada --sort charged",
    ),
    "calls show": ("merino calls show req_ee2a4b8031b1fd000001a",),
    "completion": (
        'eval "$(merino completion bash)"',
        'eval "$(merino completion zsh)"',
        "merino completion fish > ~/.config/fish/completions/merino.fish",
    ),
    "config check": ("merino config check --config merino.toml",),
    "aliases create": ("merino aliases create fast --deployment groq-llama --deployment sim/o3",),
    "deployments create": (
        (
            "merino deployments create groq-llama --base-url https://api.groq.com/openai/v1 "
            "--credential env:GROQ_API_KEY --upstream-model llama-3.3-70b-versatile "
            "--price-input 0.59 --price-output 0.79"
        ),
    ),
    "deployments drain": ("merino deployments drain openai/o3",),
    "deployments export": ("merino deployments export > added.toml",),
    "deployments test": ("merino deployments test groq-llama --key first",),
    "doctor": (
        "merino doctor",
        "merino doctor --all",
        "merino doctor --base-url http://127.0.0.1:8080/v1 --model o3",
    ),
    "entries list": (
        "merino entries list --account research --kind credit",
        "merino entries list --month last",
    ),
    "invitations create": (
        "merino invitations create --email ada@example.org --credit 5",
        "merino invitations create --account research --role viewer",
    ),
    "invitations void": ("merino invitations void inv_5f3a",),
    "people approve": ("merino people approve per_5f3a",),
    "people list": (
        "merino people list --state waiting",
        "merino people list --email example.org",
    ),
    "people delete": ("merino people delete per_5f3a",),
    "sla confirm": ("merino sla confirm research 2026-10",),
    "sla show": ("merino sla show --month 2026-10 --sort due",),
    "topups list": ("merino topups list --account research",),
    "vouchers list": ("merino vouchers list --batch spring",),
    "admin-keys rotate": ("merino admin-keys rotate laptop",),
    "admin-keys revoke": ("merino admin-keys revoke laptop",),
    "import litellm": (
        "merino import litellm config.yaml dump.sql --dry-run",
        "merino import litellm config.yaml dump.sql --settings merino.toml",
    ),
    "import new-api": (
        "merino import new-api one-api.db --dry-run",
        "merino import new-api one-api.db --settings merino.toml --mapping new-keys.csv",
    ),
    "import openrouter": ("merino import openrouter keys.json credits.json --dry-run",),
    "init": (
        "merino init",
        "merino init --provider openai --port 8080 --yes",
    ),
    "keys create": (
        "merino keys create --name ada",
        (
            "merino keys create --name ci --account research --alias o3-mini --spend-cap 5 "
            "--spend-period month"
        ),
    ),
    "keys disable": ("merino keys disable ada",),
    "keys rotate": ("merino keys rotate ada", "merino keys rotate ada --keep-old 1h"),
    "keys update": ("merino keys update ada --rpm 60 --spend-cap none",),
    "ledger export": ("merino ledger export --format csv --output entries.csv",),
    "logs": ("merino logs -f", "merino logs -n 50 --key ada", "merino logs -f --failed"),
    "prices list": ("merino prices list --model o3", "merino prices list --provider openai"),
    "prices show": ("merino prices show o3",),
    "prices diff": ("merino prices diff --from 2026-01-01",),
    "rates set": ("merino rates set USD CNY 7.12",),
    "report": (
        "merino report --by key,alias --month last --sort charged",
        "merino report --by day --since 30d",
    ),
    "metrics alerts": ("merino metrics alerts > merino.rules.yaml",),
    "metrics grafana": ("merino metrics grafana > merino.dashboard.json",),
    "reconcile": (
        "merino reconcile --provider openai --month 2026-10 usage.csv costs.csv",
        "merino reconcile --provider anthropic --month last costs.csv --key prod=claude",
    ),
    "restore": (
        "merino restore /backups/merino --data restored",
        "merino restore /backups/merino --data restored --at 2026-11-28T09:30:00Z",
        "merino restore /backups/merino --data restored --journal merino-data/journal",
    ),
    "roi": (
        "merino roi --from-ledger --last 30d",
        "merino roi --model o3 --input-tokens 10M --output-tokens 5M",
    ),
    "serve": ("merino serve", "merino serve --port 9000 --data /srv/merino"),
    "status": ("merino status", "merino status --json"),
    "stop": ("merino stop", "merino stop --timeout 5 --cut"),
    "topups confirm": ("merino topups confirm top_5f3a 20.00 EUR --reference 'transfer 4711'",),
    "topups create": ("merino topups create research 20.00",),
    "topups refund": ("merino topups refund top_5f3a --amount 5.00",),
    "vouchers create": ("merino vouchers create --value 10 --count 20 --batch spring",),
    "vouchers redeem": ("merino vouchers redeem MV-XXXX-XXXX research",),
}
"""By the words of the command. A test reads each as the command line does."""


class Help(click.HelpFormatter):
    """Headings stand out where somebody looks."""

    def write_heading(self, heading: str) -> None:
        super().write_heading(_bold(heading))

    def write_usage(self, prog: str, args: str = "", prefix: str | None = None) -> None:
        super().write_usage(prog, args, _bold("Usage") + ": " if prefix is None else prefix)


def as_epilog(examples: Sequence[str]) -> str:
    """As click leaves it alone: every example a line."""
    return "\b\nExamples:\n" + "\n".join(f"  {each}" for each in examples)


def add_examples(command: click.Command, words: str) -> None:
    """To it and what is below it, which its group tells of in a whole sentence."""
    if command.short_help is None and command.help:
        command.short_help = _first_sentence(command.help)
    if words in EXAMPLES and not command.epilog:
        command.epilog = as_epilog(EXAMPLES[words])
    if isinstance(command, click.Group):
        for name, inner in command.commands.items():
            add_examples(inner, f"{words} {name}")


def _first_sentence(text: str) -> str:
    """Of a command's help: click would cut it off at a width of its own."""
    first = " ".join(text.strip().partition("\n\n")[0].split())
    end = first.find(". ")
    return first if end < 0 else first[: end + 1]


def _bold(heading: str) -> str:
    terminal = terminal_of(sys.stdout)
    return click.style(heading, bold=True) if terminal and terminal.has_colour else heading
