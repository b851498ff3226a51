"""Deployments and aliases that are added beside those of the settings: made, changed, tried,
removed, and written out as a settings file would say them."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Mapping
from typing import Annotated, Any, Literal, cast

from msgspec import UNSET, Meta, Struct, UnsetType

from merino.control.additions import Changes
from merino.control.terms import ALIAS_PATTERN, nanos_of
from merino.domain.addition import Addition
from merino.domain.deployment import Alias, OnDisconnect, SelectionPolicyName
from merino.domain.errors import InvalidCall
from merino.domain.limits import LIMIT_KINDS
from merino.domain.money import format_nanos
from merino.operations.deployments import DeploymentShape, shown_deployment
from merino.operations.fields import Amount, In, LimitsChange, Reference
from merino.operations.shape import shown, shows
from merino.operations.table import Asked, Operations
from merino.settings.declaring import Seconds, SecondsOrNone, Tokens
from merino.settings.sections.deployments import Dialect, EndpointName, LimitNames

OfferName = Annotated[
    str,
    Meta(
        description="Letters, digits and . _ / : @ + -, a letter or digit first.",
        extra_json_schema={"pattern": ALIAS_PATTERN, "minLength": 1, "maxLength": 200},
    ),
]
Text = Annotated[str, Meta(max_length=2000, extra_json_schema={"pattern": r"^[!-~]*$"})]
SecretReference = Annotated[
    str,
    Meta(
        max_length=500,
        description="Where the provider's API key is: `env:NAME` or `file:PATH`, as "
        "`upstream.references` allows. The key itself is not taken.",
        extra_json_schema={"pattern": r"^(env:[A-Z][A-Z0-9_]{0,60}|file:/[a-z/]{1,60})$"},
    ),
]
HeaderLine = Annotated[
    str, Meta(max_length=4000, extra_json_schema={"pattern": r"^X-[A-Z][a-z]{1,20}: [a-z]{1,20}$"})
]
Headers = Annotated[
    list[HeaderLine],
    Meta(
        description="Headers added to every request, as `Name: value`; a secret is a reference.",
        extra_json_schema={"maxItems": 30},
    ),
]
OfferNames = Annotated[list[OfferName], Meta(extra_json_schema={"maxItems": 100})]
Apis = Annotated[
    list[EndpointName], Meta(description="The APIs it has; empty: what it refuses is learned.")
]
Share = Annotated[int, Meta(ge=1, le=1000)]
TokensOrNone = Annotated[int, Meta(ge=0, le=10_000_000)]


class DeploymentTerms(LimitsChange, kw_only=True):
    """Each as `[[deployments]]` has it; prices are in dollars per million LLM tokens. `null` takes
    the default."""

    provider: Dialect | UnsetType | None = UNSET
    base_url: Text | UnsetType | None = UNSET
    credential: SecretReference | UnsetType | None = UNSET
    upstream_model: Text | UnsetType | None = UNSET
    price_model: Text | UnsetType | None = UNSET
    price_input: Amount | UnsetType | None = UNSET
    price_cached: Amount | UnsetType | None = UNSET
    price_output: Amount | UnsetType | None = UNSET
    account_price_input: Amount | UnsetType | None = UNSET
    account_price_cached: Amount | UnsetType | None = UNSET
    account_price_output: Amount | UnsetType | None = UNSET
    headers: Headers | UnsetType | None = UNSET
    weight: Share | UnsetType | None = UNSET
    endpoints: Apis | UnsetType | None = UNSET
    output_limit_names: LimitNames | UnsetType | None = UNSET
    on_disconnect: OnDisconnect | UnsetType | None = UNSET
    first_token_timeout_s: Seconds | UnsetType | None = UNSET
    answer_timeout_s: SecondsOrNone | UnsetType | None = UNSET
    idle_timeout_s: SecondsOrNone | UnsetType | None = UNSET
    health_check_s: SecondsOrNone | UnsetType | None = UNSET
    adaptive_concurrency: bool | UnsetType | None = UNSET
    image_tokens_max: TokensOrNone | UnsetType | None = UNSET
    file_tokens_max: TokensOrNone | UnsetType | None = UNSET


class NewDeployment(DeploymentTerms, kw_only=True):
    name: OfferName


class DeploymentChange(DeploymentTerms, kw_only=True):
    """What is left out stays as it is."""

    name: OfferName


class AliasTerms(LimitsChange, kw_only=True):
    """Each as `[aliases]` has it. `null` takes the default."""

    output_tokens_max: Tokens | UnsetType | None = UNSET
    context_tokens_max: Tokens | UnsetType | None = UNSET
    reasoning: bool | UnsetType | None = UNSET
    timeout_s: Seconds | UnsetType | None = UNSET
    selection_policy: SelectionPolicyName | UnsetType | None = UNSET
    fallbacks: OfferNames | UnsetType | None = UNSET
    hedging: bool | UnsetType | None = UNSET
    session_affinity: bool | UnsetType | None = UNSET


class NewAlias(AliasTerms, kw_only=True):
    name: OfferName
    deployments: Annotated[list[OfferName], Meta(min_length=1, extra_json_schema={"maxItems": 100})]


class AliasChange(AliasTerms, kw_only=True):
    """What is left out stays as it is."""

    name: OfferName
    deployments: OfferNames | UnsetType = UNSET


class Named(In):
    name: OfferName


class Removed(Struct):
    """What was removed."""

    name: str
    removed: bool = True


_IN_FILE = "as the settings say it; nothing of it changes while calls run"


@shows(Alias, hidden={"standins": "the deployments of its fallbacks"})
class AliasShape(Struct):
    """`source`: file, environment, added or built in."""

    name: str
    source: str
    deployments: list[str]
    output_tokens_max: int
    context_tokens_max: int
    reasoning: bool
    timeout_s: float
    selection_policy: str
    hedging: bool
    session_affinity: bool
    rps: int | None
    rpm: int | None
    tpm: int | None
    concurrency: int | None


class Aliases(Struct):
    data: list[AliasShape]


class Trial(In):
    """`key` pays for the call, like for any other."""

    name: str
    key: Reference


class Tried(Struct):
    """How a short call to a deployment went. `error` is what was wrong with it."""

    name: str
    status: int
    took_ms: float
    error: str | None


class OfferExport(In):
    format: Literal["toml", "json"] = "toml"


_AMOUNTS = frozenset(name for name in DeploymentTerms.__struct_fields__ if "price_" in name) - {
    "price_model"
}


def changes_of(said: Struct) -> Changes:
    """What a body says, by the places of the settings. Raises `InvalidCall`."""
    found: dict[tuple[str, ...], Any] = {}
    for name in said.__struct_fields__:
        value = getattr(said, name)
        if name == "name" or value is UNSET:
            continue
        if value is not None and name in _AMOUNTS:
            value = format_nanos(nanos_of(value, name))
        elif value is not None and name == "headers":
            value = dict(_header(line) for line in cast("list[str]", value)) or None
        elif value in ("", []):
            value = None
        found[place_of(name)] = value
    return found


def place_of(field: str) -> tuple[str, ...]:
    """Where a settings file has what a body's field says."""
    if field in LIMIT_KINDS:
        return "limits", field
    if field in _AMOUNTS:
        table, _, name = field.rpartition("_")
        return table, name
    return (field,)


def said_of(addition: Addition, kind: type[Struct]) -> dict[str, Any]:
    """What was said of it, by a body's fields: as forms show it again."""
    found: dict[str, Any] = {"name": addition.name}
    for field in kind.__struct_fields__:
        value: Any = addition.terms
        for part in place_of(field):
            value = cast("Mapping[str, Any]", value).get(part, {})
        if value not in ({}, None):
            found[field] = _lines(value) if field == "headers" else value
    return found


def _lines(headers: Mapping[str, str]) -> list[str]:
    return [f"{name}: {text}" for name, text in headers.items()]


def _header(line: str) -> tuple[str, str]:
    name, colon, text = line.partition(":")
    if not colon or not name.strip() or not text.strip():
        raise InvalidCall(
            f"A header is written as 'Name: value', not {line[:60]!r}",
            param="headers",
            code="invalid_value",
        )
    return name.strip(), text.strip()


OPERATIONS = Operations()


@OPERATIONS.post("/deployments", "Add a deployment beside those of the settings", status=201)
async def create_deployment(asked: Asked, body: NewDeployment) -> DeploymentShape:
    await asked.control.additions.add("deployment", body.name, changes_of(body))
    return shown_deployment(asked.control, body.name)


@OPERATIONS.post("/deployments/change", "Change a deployment that was added")
async def update_deployment(asked: Asked, body: DeploymentChange) -> DeploymentShape:
    await asked.control.additions.change("deployment", body.name, changes_of(body))
    return shown_deployment(asked.control, body.name)


@OPERATIONS.post(
    "/deployments/remove", "Remove a deployment that was added; calls that run there go on"
)
async def remove_deployment(asked: Asked, body: Named) -> Removed:
    await asked.control.additions.remove("deployment", body.name)
    return Removed(body.name)


@OPERATIONS.post("/deployments/test", "Send a deployment a short call, paid by a key")
async def test_deployment(asked: Asked, body: Trial) -> Tried:
    status, took_ms, error = await asked.control.try_out(body.name, body.key)
    return Tried(body.name, status, round(took_ms, 1), error)


@OPERATIONS.get("/aliases", "List the names that callers send as the model")
async def list_aliases(asked: Asked) -> Aliases:
    return Aliases([_alias(asked, each) for each in asked.control.aliases])


@OPERATIONS.post("/aliases", "Add an alias beside those of the settings", status=201)
async def create_alias(asked: Asked, body: NewAlias) -> AliasShape:
    await asked.control.additions.add("alias", body.name, changes_of(body))
    return _named_alias(asked, body.name)


@OPERATIONS.post("/aliases/change", "Change an alias that was added")
async def update_alias(asked: Asked, body: AliasChange) -> AliasShape:
    await asked.control.additions.change("alias", body.name, changes_of(body))
    return _named_alias(asked, body.name)


@OPERATIONS.post("/aliases/remove", "Remove an alias that was added")
async def remove_alias(asked: Asked, body: Named) -> Removed:
    await asked.control.additions.remove("alias", body.name)
    return Removed(body.name)


@OPERATIONS.get(
    "/additions/export",
    "What was added, as a part of a settings file",
    filename="merino-additions",
)
async def export_additions(asked: Asked, query: OfferExport) -> AsyncIterator[bytes]:
    known = asked.control.additions.list()
    if query.format == "json":
        rows = [{"kind": each.kind, "name": each.name, **each.terms} for each in known]
        return _whole(json.dumps({"data": rows}, ensure_ascii=False, indent=2) + "\n")
    return _whole("\n".join(_toml(each) for each in known) or "# Nothing was added.\n")


async def _whole(text: str) -> AsyncIterator[bytes]:
    yield text.encode()


def _alias(asked: Asked, alias: Alias) -> AliasShape:
    return shown(
        AliasShape,
        alias,
        source=asked.control.source_of("alias", alias.name),
        deployments=[each.name for each in alias.deployments],
    )


def _named_alias(asked: Asked, name: str) -> AliasShape:
    [found] = [each for each in asked.control.aliases if each.name == name]
    return _alias(asked, found)


def _toml(addition: Addition) -> str:
    if addition.kind == "deployment":
        lines = ["[[deployments]]", f"name = {_value(addition.name)}"]
    else:
        lines = [f"[aliases.{_value(addition.name)}]"]
    lines += [f"{name} = {_value(value)}" for name, value in addition.terms.items()]
    return "\n".join(lines) + "\n"


def _value(value: Any) -> str:
    """As TOML, whose texts, numbers and lists are written as JSON's; tables on one line."""
    if isinstance(value, dict):
        members = cast("dict[str, Any]", value).items()
        return "{ " + ", ".join(f"{_key(name)} = {_value(each)}" for name, each in members) + " }"
    return json.dumps(value, ensure_ascii=False)


def _key(name: str) -> str:
    is_bare = name.isascii() and name.replace("_", "").replace("-", "").isalnum()
    return name if is_bare else json.dumps(name)
