"""Rules for Prometheus: what is worth waking somebody for, and what can wait for the morning."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Rule:
    """`lasts` is how long `expr` must hold; `severity` is `critical` or `warning`."""

    name: str
    expr: str
    lasts: str
    severity: str
    summary: str
    help: str


RULES: tuple[Rule, ...] = (
    Rule(
        "MerinoDown",
        'up{job=~"merino.*"} == 0',
        "1m",
        "critical",
        "A relay does not answer",
        "Prometheus cannot read /metrics of {{ $labels.instance }}.",
    ),
    Rule(
        "MerinoManyCallsFail",
        'sum by (job) (rate(merino_calls_total{status=~"5.."}[5m])) '
        "/ sum by (job) (rate(merino_calls_total[5m])) > 0.05",
        "5m",
        "critical",
        "More than 5 % of calls fail",
        "See which deployment fails: merino calls list --status 502, or the dashboard.",
    ),
    Rule(
        "MerinoBreakerOpen",
        "max by (deployment) (merino_breaker_state) == 2",
        "5m",
        "warning",
        "Deployment {{ $labels.deployment }} is left alone",
        "Its breaker has been open for five minutes: merino doctor says why.",
    ),
    Rule(
        "MerinoJournalDamaged",
        "merino_journal_damaged > 0",
        "0m",
        "critical",
        "The journal has a damaged end",
        "merino ledger verify says what may be lost, and how to take note of it.",
    ),
    Rule(
        "MerinoLedgerFallsBehind",
        "merino_ledger_backlog_calls > 1000 and deriv(merino_ledger_backlog_calls[10m]) > 0",
        "10m",
        "critical",
        "Calls are not booked",
        "They are safe in the journal, but the database takes none: is its disk full or slow?",
    ),
    Rule(
        "MerinoOverruns",
        "sum by (gen_ai_request_model) (increase(merino_overrun_total[1h])) > 0",
        "5m",
        "warning",
        "Calls of {{ $labels.gen_ai_request_model }} cost more than was held",
        "What an upstream reports does not fit the limits it was given.",
    ),
    Rule(
        "MerinoOddUsage",
        'sum by (deployment, oddity) (merino_odd_usage_calls{oddity=~"impossible|runaway|'
        'zero_charge|unpriced_unit"}) > sum by (deployment, oddity) (merino_odd_usage_calls'
        '{oddity=~"impossible|runaway|zero_charge|unpriced_unit"} offset 1h)',
        "5m",
        "warning",
        "{{ $labels.deployment }} reports usage that cannot be right: {{ $labels.oddity }}",
        "Such calls are listed on the dashboard, with what was said and what was billed.",
    ),
    Rule(
        "MerinoEventLoopLate",
        "histogram_quantile(0.999, "
        "sum by (le, instance) (rate(merino_loop_lag_seconds_bucket[5m]))) > 0.05",
        "10m",
        "warning",
        "The event loop of {{ $labels.instance }} is held up",
        "The log names what ran: look for 'the event loop was held up'.",
    ),
    Rule(
        "MerinoTelemetryLost",
        "increase(merino_telemetry_lost[15m]) > 0",
        "0m",
        "warning",
        "Telemetry for {{ $labels.sink }} is given up",
        "The collector or sink was away for too long, or refuses what it is sent.",
    ),
)


def rules_yaml() -> str:
    """A file for Prometheus' `rule_files`."""
    lines = ["groups:", "  - name: merino", "    rules:"]
    for rule in RULES:
        lines += [
            f"      - alert: {rule.name}",
            f"        expr: {_quoted(rule.expr)}",
            f"        for: {rule.lasts}",
            "        labels:",
            f"          severity: {rule.severity}",
            "        annotations:",
            f"          summary: {_quoted(rule.summary)}",
            f"          description: {_quoted(rule.help)}",
        ]
    return "\n".join(lines) + "\n"


def _quoted(text: str) -> str:
    """A YAML scalar in single quotes, in which nothing else has a meaning."""
    return "'" + text.replace("'", "''") + "'"
