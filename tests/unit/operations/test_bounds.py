"""OpenAPI, the command line and the dashboard's pages know the table's bounds and choices."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import click
import msgspec
import pytest

import merino.dashboard
from merino.api.openapi import describe
from merino.api.problems import ErrorBody
from merino.cli.options import OrNone
from merino.cli.root import root
from merino.control.accounts import MAIL_LENGTH_MAX, MEMO_LENGTH_MAX
from merino.control_plane import OPERATIONS
from merino.dashboard import keys as key_pages
from merino.domain.account import ACCOUNT_CURRENCIES
from merino.domain.limits import LIMIT_KINDS
from merino.operations.accounts import AccountChange, NewAccount
from merino.operations.fields import PAGE_LIMIT_MAX
from merino.operations.keys import KeyChange, NewKey
from merino.operations.kinds import Kind, kind_of
from merino.operations.table import Operation

TABLE = OPERATIONS
PAGES = Path(merino.dashboard.__file__).parent / "templates"
NO_ADMIN = (
    "init",
    "backup",
    "stop",
    "logs",
    "completion",
    "serve",
    "config",
    "prices",
    "batch",
    "bench",
    "doctor",
    "roi",
    "reconcile",
)
"""Commands that ask no operation."""
OF_PAGES = ("limit", click.IntRange(1, 1_000_000))
"""A command goes over as many pages as that takes."""


def takes(operation: Operation) -> dict[str, Kind]:
    kind = operation.body or operation.query
    return {field.name: kind_of(field.type) for field in msgspec.structs.fields(kind)}


@pytest.mark.parametrize("operation", TABLE, ids=lambda operation: operation.name)
def test_openapi_says_the_tables_bounds_and_choices(operation):
    """What a tool makes of the description is what the table takes."""
    described = describe(TABLE, ErrorBody, version="1", server="/")
    path = described["paths"][operation.path][operation.method.lower()]
    if operation.body is None:
        schemas = {each["name"]: each["schema"] for each in path["parameters"]}
    else:
        schemas = described["components"]["schemas"][operation.body.__name__]["properties"]
    for name, kind in takes(operation).items():
        arms = [schemas[name], *schemas[name].get("anyOf", ())]
        said = {key: value for each in arms for key, value in each.items()}
        if kind.choices:
            assert list(kind.choices) == sorted(said["enum"], key=kind.choices.index), name
        if kind.is_a in (int, float) and kind.most:
            least = said["exclusiveMinimum" if kind.is_above else "minimum"]
            assert (kind.least, kind.most) == (least, said["maximum"]), name


def _options(command: click.Command, path: str) -> Iterator[tuple[str, str, click.ParamType]]:
    if isinstance(command, click.Group):
        context = click.Context(command)
        for name in command.list_commands(context):
            if command is not root or name not in NO_ADMIN:
                below = command.get_command(context, name)
                assert below is not None
                yield from _options(below, f"{path} {name}")
        return
    for each in command.params:
        if isinstance(each, click.Option):
            kind = each.type._kind if isinstance(each.type, OrNone) else each.type
            yield path, each.opts[0].removeprefix("--").replace("-", "_"), kind


def test_the_command_line_knows_the_tables_bounds_and_choices():
    """A number or choice of a command is that of a field with its name, in made commands and in
    those written by hand."""
    known: dict[str, set[object]] = {}
    for operation in TABLE:
        for name, kind in takes(operation).items():
            known.setdefault(name, set()).add(kind.choices or (kind.least, kind.most))
    checked = 0
    for path, name, kind in _options(root, "merino"):
        if isinstance(kind, click.Choice):
            assert tuple(kind.choices) in known[name], f"{path} --{name}"
        elif isinstance(kind, click.IntRange | click.FloatRange):
            bounds = (kind.min, kind.max)
            is_of_pages = (name, bounds) == ("limit", (1, OF_PAGES[1].max))
            assert is_of_pages or bounds in known[name], f"{path} --{name}"
        else:
            continue
        checked += 1
    assert checked > 30


def test_pages_ask_for_fields_that_operations_take():
    """A form's field that is misspelt would be left out without a word."""
    terms, limits = set(key_pages._TERMS), set(LIMIT_KINDS)
    assert set() == terms - set(NewKey.__struct_fields__) - {"name"}
    assert set() == terms - set(KeyChange.__struct_fields__)
    assert set() == limits - set(AccountChange.__struct_fields__)
    assert set() == {"name", "currency"} - set(NewAccount.__struct_fields__)


def test_pages_let_nothing_longer_be_typed_than_is_taken():
    """The lengths in the forms are the table's."""
    mails = dict.fromkeys(("email", "notice_email"), MAIL_LENGTH_MAX)
    lengths = {"name": 100, "memo": MEMO_LENGTH_MAX, **mails}
    found = {
        (name, int(length))
        for page in PAGES.glob("*.html")
        for name, length in re.findall(r'field\(\w+, "(\w+)"[^)]*\bmost=(\d+)', page.read_text())
    }
    longer = {("name", 200)}  # of deployments and aliases, which vendors name
    assert {*lengths.items(), *longer} == found


def test_a_page_and_a_query_have_one_length():
    """How many a list shows at most."""
    assert {PAGE_LIMIT_MAX} == {
        kind.most for operation in TABLE for name, kind in takes(operation).items()
        if name == "limit"
    }  # fmt: skip


def test_a_page_offers_every_currency_of_accounts():
    """Forms and API have one list."""
    field = next(each for each in msgspec.structs.fields(NewAccount) if each.name == "currency")
    [meta] = [each for each in field.type.__metadata__ if isinstance(each, msgspec.Meta)]
    assert list(ACCOUNT_CURRENCIES) == meta.extra_json_schema["enum"]
