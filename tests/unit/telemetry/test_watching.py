"""The dashboard and the alerts that come with the relay: they must ask for what there is."""

import json
import re
from typing import Any

import promql_parser
import pytest
import yaml
from tests.in_process import run_command
from tests.unit.telemetry.test_metric_labels import page_of_metrics

from merino.telemetry.alerts import RULES, rules_yaml
from merino.telemetry.grafana import ROWS, dashboard

QUERIES = [query for _, row in ROWS for panel in row for query, _ in panel.queries]
_OF_HISTOGRAM = re.compile(r"_(bucket|sum|count)\Z")
_OF_PROMETHEUS = {"job", "instance", "le"}


def selectors(text: str):
    """Every metric that a query names, with the labels it is asked by; the labels it is grouped by."""
    concrete = text.replace("$__rate_interval", "5m")
    grouped: set[str] = set()
    found: list[tuple[str, set[str]]] = []
    todo: list[Any] = [promql_parser.parse(concrete)]
    while todo:
        node = todo.pop()
        modifier = getattr(node, "modifier", None)
        if modifier is not None and hasattr(modifier, "labels"):
            grouped |= set(modifier.labels)
        if hasattr(node, "matchers"):
            matchers = {each.name for each in node.matchers.matchers}
            found.append((node.name, matchers - {"__name__"}))
        for name in ("expr", "lhs", "rhs", "vs", "vector_selector"):
            inner = getattr(node, name, None)
            if inner is not None:
                todo.append(inner)
        todo += getattr(node, "args", None) or []
    return found, grouped


@pytest.mark.parametrize("query", [*QUERIES, *(rule.expr for rule in RULES)])
def test_every_query_asks_for_metrics_and_labels_that_there_are(query: str) -> None:
    """It parses as PromQL; what it names stands on the page of metrics."""
    page = page_of_metrics()
    found, grouped = selectors(query)
    assert found
    known = set(_OF_PROMETHEUS)
    for name, labels in found:
        if name == "up":
            continue
        family = name if name in page else _OF_HISTOGRAM.sub("", name)
        assert family in page, name
        assert labels <= page[family] | _OF_PROMETHEUS, name
        known |= page[family]
    assert grouped <= known


def test_the_rules_are_what_prometheus_reads() -> None:
    """YAML with the members of its rule files, names once each."""
    (group,) = yaml.safe_load(rules_yaml())["groups"]
    assert "merino" == group["name"]
    assert [rule.name for rule in RULES] == [each["alert"] for each in group["rules"]]
    assert len(RULES) == len({rule.name for rule in RULES})
    for rule, read in zip(RULES, group["rules"], strict=True):
        assert rule.expr == read["expr"]
        assert re.fullmatch(r"[0-9]+[smh]", read["for"])
        assert read["labels"]["severity"] in ("critical", "warning")
        assert rule.summary == read["annotations"]["summary"]


def test_the_panels_lie_beside_and_below_each_other() -> None:
    """None covers another, none is wider than the page, ids are their own."""
    taken: set[tuple[int, int]] = set()
    panels = dashboard()["panels"]
    for panel in panels:
        grid = panel["gridPos"]
        assert grid["x"] + grid["w"] <= 24
        cells = {
            (x, y)
            for x in range(grid["x"], grid["x"] + grid["w"])
            for y in range(grid["y"], grid["y"] + grid["h"])
        }
        assert not cells & taken, panel["title"]
        taken |= cells
    assert len(panels) == len({panel["id"] for panel in panels})


def test_both_come_from_the_command_line() -> None:
    assert dashboard() == json.loads(run_command("metrics", "grafana").stdout)
    assert rules_yaml() == run_command("metrics", "alerts").stdout
    told = json.loads(run_command("metrics", "alerts", "--json").stdout)["data"]
    assert [rule.name for rule in RULES] == [each["name"] for each in told]
