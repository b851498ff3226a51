"""A Grafana dashboard over what `/metrics` shows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

_JOB = 'job=~"$job"'
_OF = f'{_JOB}, gen_ai_request_model=~"$model"'
_WIDTH = 24
_HEIGHT = 8


@dataclass(frozen=True, slots=True)
class Panel:
    """A graph of one or more queries, each with the legend of its lines; `stat` shows one number.
    `width` is of 24."""

    title: str
    unit: str
    queries: tuple[tuple[str, str], ...]
    width: int = 12
    stat: bool = False
    about: str = ""


def _rate(name: str, by: str = "", labels: str = _OF) -> str:
    grouped = f" by ({by})" if by else ""
    return f"sum{grouped} (rate({name}{{{labels}}}[$__rate_interval]))"


def _quantile(share: str, name: str, by: str = "", labels: str = _OF) -> str:
    buckets = _rate(f"{name}_bucket", f"le, {by}" if by else "le", labels)
    return f"histogram_quantile({share}, {buckets})"


def _sum(name: str) -> str:
    return f"sum({name}{{{_JOB}}})"


_CALLS = "merino_calls_total"
_DURATION = "gen_ai_client_operation_duration_seconds"
_FIRST = "gen_ai_client_operation_time_to_first_chunk_seconds"
_TOKENS = "gen_ai_client_inference_usage_{}_tokens_total"
_MODEL, _DEPLOYMENT, _ERROR = "gen_ai_request_model", "deployment", "status, error_type"
_NAME = {each: f"{{{{{each}}}}}" for each in (_MODEL, _DEPLOYMENT)}
_ERROR_NAME = "{{status}} {{error_type}}"
_SHARES = (("0.5", "p50"), ("0.95", "p95"), ("0.99", "p99"))
_FAILED = f'{_OF}, status=~"5.."'
_NOT_OK = f'{_OF}, status!="200"'

_NOW = (
    Panel("Calls", "reqps", ((_rate(_CALLS), "calls"),), 6, stat=True),
    Panel(
        "Failed",
        "percentunit",
        ((f"{_rate(_CALLS, labels=_FAILED)} / {_rate(_CALLS)}", "share"),),
        6,
        stat=True,
    ),
    Panel(
        "Charged, per hour",
        "none",
        ((f"3600 * {_rate('merino_charged_total')}", "charged"),),
        6,
        stat=True,
        about="In the accounts' currencies, added up.",
    ),
    Panel("In flight", "none", ((_sum("merino_calls_in_flight"), "calls"),), 6, stat=True),
)
_OF_CALLS = (
    Panel("Calls by model", "reqps", ((_rate(_CALLS, _MODEL), _NAME[_MODEL]),)),
    Panel(
        "Failures by status and error",
        "reqps",
        ((_rate(_CALLS, _ERROR, _NOT_OK), _ERROR_NAME),),
    ),
    Panel(
        "Time to the first token",
        "s",
        tuple(
            (_quantile(share, _FIRST, _MODEL), f"{name} {_NAME[_MODEL]}") for share, name in _SHARES
        ),
    ),
    Panel(
        "Time for a call",
        "s",
        tuple(
            (_quantile(share, _DURATION, _MODEL), f"{name} {_NAME[_MODEL]}")
            for share, name in _SHARES
        ),
    ),
)
_OF_MONEY = (
    Panel(
        "Tokens",
        "none",
        tuple(
            (_rate(_TOKENS.format(kind)), told)
            for kind, told in (
                ("input", "input"),
                ("cache_read_input", "of it cached"),
                ("output", "output"),
                ("reasoning_output", "of it reasoning"),
            )
        ),
        about="A second.",
    ),
    Panel(
        "Charged and owed, per hour",
        "none",
        tuple(
            (f"3600 * {_rate(name)}", told)
            for name, told in (
                ("merino_charged_total", "charged to accounts"),
                ("merino_upstream_cost_total", "owed to providers"),
                ("merino_overrun_total", "above holds"),
            )
        ),
    ),
)
_OF_DEPLOYMENTS = (
    Panel(
        "p95 by deployment",
        "s",
        ((_quantile("0.95", _DURATION, _DEPLOYMENT), _NAME[_DEPLOYMENT]),),
    ),
    Panel(
        "Failed attempts",
        "reqps",
        ((_rate("merino_failed_attempts_total", _DEPLOYMENT), _NAME[_DEPLOYMENT]),),
    ),
    Panel(
        "Breakers",
        "none",
        ((f"max by (deployment) (merino_breaker_state{{{_JOB}}})", _NAME[_DEPLOYMENT]),),
        about="0 closed, 1 half-open, 2 open.",
    ),
    Panel(
        "In flight by deployment",
        "none",
        (
            (
                f"sum by (deployment) (merino_deployment_calls_in_flight{{{_JOB}}})",
                _NAME[_DEPLOYMENT],
            ),
        ),
    ),
)
_OF_THE_RELAY = (
    Panel(
        "Its own time in a call",
        "s",
        tuple(
            (_quantile(share, "merino_overhead_seconds", labels=_JOB), name)
            for share, name in (_SHARES[0], _SHARES[2])
        ),
    ),
    Panel(
        "How late its event loop is",
        "s",
        ((_quantile("0.999", "merino_loop_lag_seconds", labels=_JOB), "p99.9"),),
    ),
    Panel(
        "Waiting",
        "none",
        (
            (_sum("merino_calls_waiting"), "calls for limits or credit"),
            (_sum("merino_holds_open"), "open holds"),
            (_sum("merino_ledger_backlog_calls"), "calls not yet booked"),
        ),
    ),
    Panel(
        "Refused before an upstream was asked",
        "reqps",
        ((_rate("merino_refused_requests_total", _ERROR, _JOB), _ERROR_NAME),),
    ),
)
ROWS: tuple[tuple[str, tuple[Panel, ...]], ...] = (
    ("Now", _NOW),
    ("Calls", _OF_CALLS),
    ("Tokens and money", _OF_MONEY),
    ("Deployments", _OF_DEPLOYMENTS),
    ("The relay", _OF_THE_RELAY),
)


def dashboard() -> dict[str, Any]:
    """What Grafana imports. The data source, the job and the models are chosen there."""
    panels: list[dict[str, Any]] = []
    y = 0
    for title, row in ROWS:
        grid = {"h": 1, "w": _WIDTH, "x": 0, "y": y}
        panels.append(
            {
                "type": "row",
                "title": title,
                "gridPos": grid,
                "collapsed": False,
                "panels": [],
                "id": len(panels) + 1,
            }
        )
        y += 1
        x = 0
        for panel in row:
            height = _HEIGHT // 2 if panel.stat else _HEIGHT
            if x + panel.width > _WIDTH:
                x, y = 0, y + height
            grid = {"h": height, "w": panel.width, "x": x, "y": y}
            panels.append({**_panel(panel), "gridPos": grid, "id": len(panels) + 1})
            x += panel.width
        y += _HEIGHT // 2 if row[-1].stat else _HEIGHT
    return {
        "title": "Merino",
        "uid": "merino",
        "tags": ["merino"],
        "timezone": "browser",
        "schemaVersion": 39,
        "editable": True,
        "refresh": "30s",
        "time": {"from": "now-6h", "to": "now"},
        "templating": {"list": _VARIABLES},
        "panels": panels,
    }


_SOURCE = {"type": "prometheus", "uid": "${source}"}
_VARIABLES: list[dict[str, Any]] = [
    {"name": "source", "label": "Data source", "type": "datasource", "query": "prometheus"},
    {
        "name": "job",
        "label": "Job",
        "type": "query",
        "datasource": _SOURCE,
        "query": "label_values(merino_calls_in_flight, job)",
        "includeAll": True,
        "allValue": ".*",
        "multi": True,
        "refresh": 2,
    },
    {
        "name": "model",
        "label": "Model",
        "type": "query",
        "datasource": _SOURCE,
        "query": 'label_values(merino_calls_total{job=~"$job"}, gen_ai_request_model)',
        "includeAll": True,
        "allValue": ".*",
        "multi": True,
        "refresh": 2,
    },
]


def _panel(panel: Panel) -> dict[str, Any]:
    targets = [
        {"datasource": _SOURCE, "expr": expr, "legendFormat": legend, "refId": chr(ord("A") + at)}
        for at, (expr, legend) in enumerate(panel.queries)
    ]
    shown: dict[str, Any] = {
        "type": "stat" if panel.stat else "timeseries",
        "title": panel.title,
        "description": panel.about,
        "datasource": _SOURCE,
        "targets": targets,
        "fieldConfig": {"defaults": {"unit": panel.unit, "min": 0}, "overrides": []},
    }
    if not panel.stat:
        shown["options"] = {
            "legend": {"displayMode": "table", "placement": "bottom", "calcs": ["mean", "max"]},
            "tooltip": {"mode": "multi", "sort": "desc"},
        }
    return shown
