"""The description of the admin API: true to the table, and whole in itself."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Annotated, Any

import msgspec
import pytest
from msgspec import Meta, Struct

from merino.api.openapi import describe
from merino.api.problems import ErrorBody
from merino.control_plane import OPERATIONS
from merino.operations.fields import NoQuery
from merino.operations.table import Asked, Operation

WHOLE = describe(OPERATIONS, ErrorBody, version="1.2.3", server="/admin/v1")
METHODS_THAT_CHANGE = {"post", "patch", "delete", "put"}


class Answer(Struct):
    id: str


class Body(Struct):
    name: Annotated[str, Meta(max_length=9)]
    amount: Annotated[str | int, Meta(extra_json_schema={"x-any-of": [{"type": "integer"}]})]


class Query(Struct):
    of: str
    limit: Annotated[int, Meta(ge=1, le=500, description="How many.")] = 100


async def act(asked: Asked) -> Answer:
    return Answer("a")


def described(method: str = "GET", path: str = "/things", **more: Any) -> dict[str, Any]:
    """What the description says of one operation."""
    operation = Operation(method, path, "act", "Do it", act, **{"answer": Answer, **more})
    whole = describe([operation], ErrorBody, version="1", server="/")
    (by_method,) = whole["paths"].values()
    (found,) = by_method.values()
    return found | {"whole": whole}


def walked(value: Any) -> Iterator[dict[str, Any]]:
    if isinstance(value, dict):
        yield value
        for each in value.values():
            yield from walked(each)
    elif isinstance(value, list):
        for each in value:
            yield from walked(each)


def operations() -> Iterator[tuple[str, str, dict[str, Any]]]:
    for path, by_method in WHOLE["paths"].items():
        for method, each in by_method.items():
            yield method, path, each


def test_every_operation_is_described_once() -> None:
    """Under its method and path, by its own name, which clients are generated from."""
    named = [each["operationId"] for _, _, each in operations()]
    assert sorted(each.name for each in OPERATIONS) == sorted(named)
    assert len(named) == len(set(named))
    assert ("1.2.3", "/admin/v1") == (WHOLE["info"]["version"], WHOLE["servers"][0]["url"])


def test_every_reference_leads_somewhere() -> None:
    """And no schema is there that nothing leads to."""
    schemas = WHOLE["components"]["schemas"]
    named = {each["$ref"] for each in walked(WHOLE) if isinstance(each.get("$ref"), str)}
    assert {f"#/components/schemas/{name}" for name in schemas} == named


def test_fields_of_a_path_are_parameters() -> None:
    """Each that stands in braces, without what only routing needs."""
    for _, path, each in operations():
        found = [p["name"] for p in each["parameters"] if p["in"] == "path"]
        assert re.findall(r"\{(\w+)\}", path) == found
        assert ":" not in path
    rest = described(path="/things/{name:path}/of/{id}")
    assert ["name", "id"] == [p["name"] for p in rest["parameters"]]
    assert ["/things/{name}/of/{id}"] == list(rest["whole"]["paths"])


def test_a_query_is_told_field_by_field() -> None:
    """What must be given, what may, its bounds and its words."""
    of, limit = described(query=Query)["parameters"]
    assert ("of", "query", True, {"type": "string"}) == tuple(
        of[name] for name in ("name", "in", "required", "schema")
    )
    assert {
        "name": "limit",
        "in": "query",
        "required": False,
        "description": "How many.",
        "schema": {"type": "integer", "minimum": 1, "maximum": 500, "default": 100},
    } == limit
    assert [] == described(query=NoQuery)["parameters"]


def test_a_body_is_told_by_its_schema() -> None:
    """It must be sent, as JSON; what msgspec cannot say of a field is said in its place."""
    found = described("POST", body=Body)
    assert {
        "required": True,
        "content": {"application/json": {"schema": {"$ref": "#/components/schemas/Body"}}},
    } == found["requestBody"]
    fields = found["whole"]["components"]["schemas"]["Body"]["properties"]
    assert [{"type": "integer"}] == fields["amount"]["anyOf"]
    assert "x-any-of" not in fields["amount"]
    assert "requestBody" not in described()


@pytest.mark.parametrize(
    ("more", "there", "not_there"),
    [
        ({}, {"400", "401", "503", "200"}, {"404", "409", "413", "415", "422", "502"}),
        ({"path": "/things/{id}"}, {"404"}, {"409"}),
        ({"query": Query}, {"404"}, {"409"}),
        ({"method": "POST", "status": 201}, {"201", "409", "413", "415"}, {"200", "422"}),
        ({"method": "PATCH"}, {"409", "413", "415"}, {"422"}),
        ({"method": "POST", "again": lambda asked, first: Answer("a")}, {"422"}, {"502"}),
        ({"method": "POST", "path": "/topups", "body": Body}, {"502"}, {"422"}),
    ],
)
def test_what_can_go_wrong_is_listed(
    more: dict[str, Any], there: set[str], not_there: set[str]
) -> None:
    """No status comes as a surprise, and none is listed that cannot come."""
    statuses = described(**more)["responses"].keys()
    assert there <= statuses
    assert not not_there & statuses


def test_every_refusal_has_the_one_body() -> None:
    """OpenAI's, of four fields."""
    schemas = WHOLE["components"]["schemas"]
    detail = schemas["ErrorDetail"]
    assert ["message", "type", "param", "code"] == detail["required"]
    for _, _, each in operations():
        for status, answer in each["responses"].items():
            if status[0] in "45":
                schema = answer["content"]["application/json"]["schema"]
                assert {"$ref": "#/components/schemas/ErrorBody"} == schema
                assert answer["description"]


def test_money_that_moves_takes_an_idempotency_key() -> None:
    """Where it says so, and nowhere else; its pattern is what is accepted."""
    by_name = {each.name: each for each in OPERATIONS}
    moving = 0
    for method, _, each in operations():
        keys = [p for p in each["parameters"] if p["name"] == "Idempotency-Key"]
        assert bool(by_name[each["operationId"]].again) == bool(keys)
        if keys:
            moving += 1
            assert method in METHODS_THAT_CHANGE
            pattern = re.compile(keys[0]["schema"]["pattern"])
            assert pattern.search("a b")
            assert not pattern.search(" ab")
            assert not pattern.search("a" * 256)
    assert moving >= 4


def test_a_file_is_told_as_one() -> None:
    """In every form that it comes in."""
    content = described(answer=None)["responses"]["200"]["content"]
    files = {"text/csv", "application/x-ndjson", "text/html", "application/toml"}
    assert {*files, "application/json"} == content.keys()


def test_the_description_is_json() -> None:
    """Nothing in it needs an encoder of ours."""
    assert WHOLE == msgspec.json.decode(msgspec.json.encode(WHOLE))
