"""Where calls go, and under which names."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from msgspec import Meta

from merino.domain.deployment import OnDisconnect, SelectionPolicyName
from merino.settings.declaring import (
    MIB,
    Bytes,
    Seconds,
    SecondsOrNone,
    Tokens,
    optional_section,
    section,
    setting,
    table,
)
from merino.settings.sections.limits import RateSettings
from merino.settings.sections.prices import PriceSettings

EndpointName = Literal["chat/completions", "responses", "messages", "generateContent", "embeddings"]
Dialect = Literal["openai", "anthropic", "gemini", "simulator"]
LimitNames = Literal["auto", "both", "as_sent", "max_tokens", "max_completion_tokens"]


@dataclass(frozen=True, slots=True, kw_only=True)
class UpstreamSettings:
    connections_max_per_origin: Annotated[int, Meta(ge=1, le=100_000)] = setting(
        1000, "Most connections to one upstream host."
    )
    idle_s: SecondsOrNone = setting(30.0, "How long an idle upstream connection is kept.")
    connect_timeout_s: Seconds = setting(
        5.0, "How long connecting to an upstream, with TLS, may take."
    )
    answer_bytes_max: Bytes = setting(
        160 * MIB,
        "Largest whole answer of an upstream, unpacked; the largest embeddings are 140 MiB.",
    )
    editable: bool = setting(
        True,
        "Deployments and aliases may be added beside those of this file: at the dashboard, by the "
        "admin API and the command line. If not, those that were added are not used.",
    )
    references: tuple[str, ...] = setting(
        ("env:*_API_KEY",),
        "Which references to secrets such deployments may have, as patterns: `env:NAME` or "
        "`file:/run/secrets/*`. Who may add a deployment may send these secrets anywhere.",
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class SimulatorSettings:
    enabled: bool = setting(True, "Offer the built-in simulated models `sim/...`.")
    seed: Annotated[int, Meta(ge=0, le=2**63 - 1)] = setting(
        0, "The same seed gives the same answers.", holds="at start"
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class DeploymentSettings:
    name: str = setting("", "The name aliases, logs and reports use.", required=True)
    provider: Dialect = setting(
        "openai",
        "The dialect: `openai` for every OpenAI-compatible server, `anthropic` for Anthropic's "
        "Messages API and servers compatible with it, `gemini` for Gemini's generateContent.",
    )
    base_url: str = setting("", "Where it is, with the version: `https://api.openai.com/v1`.")
    credential: str = setting(
        "",
        "The provider's API key, as a reference: `env:NAME` or `file:PATH`.",
        secret=True,
    )
    upstream_model: str = setting("", "The provider's name of the model; as `name` if left out.")
    price_model: str = setting(
        "", "The name looked up in the price book; as `upstream_model` if left out."
    )
    price: PriceSettings | None = optional_section(
        PriceSettings, "What the upstream charges, instead of the price book."
    )
    account_price: PriceSettings | None = optional_section(
        PriceSettings, "What accounts pay, instead of the upstream's price times the markup."
    )
    on_disconnect: OnDisconnect = setting(
        "cancel",
        "When the caller hangs up: cancel the upstream, or drain it for the exact usage.",
    )
    first_token_timeout_s: Seconds = setting(300.0, "Longest wait for a stream's first content.")
    answer_timeout_s: SecondsOrNone = setting(
        0.0, "Longest wait for an answer that is not streamed; 0: as long as the call may take."
    )
    idle_timeout_s: SecondsOrNone = setting(
        0.0, "Longest silence in mid-stream; 0: `stream.idle_timeout_s`."
    )
    headers: Mapping[str, str] = table(
        "Headers added to every request; values may be references like `credential`.",
        secret=True,
    )
    ca_file: Path | None = setting(
        None, "PEM certificates to trust for this server instead of the system's."
    )
    weight: Annotated[int, Meta(ge=1, le=1000)] = setting(
        1, 'Its share of the calls under `selection_policy = "weighted"`.'
    )
    limits: RateSettings = section(
        RateSettings, "What may be sent there; calls beyond go to the next deployment."
    )
    adaptive_concurrency: bool = setting(
        False, "Find the number of calls in flight it bears by itself (AIMD)."
    )
    health_check_s: SecondsOrNone = setting(
        0.0, "Ask its model list this often and open its breaker when it fails; 0: never."
    )
    output_limit_names: LimitNames = setting(
        "auto",
        "Under which names it is sent the output limit. `auto`: both, but at OpenAI and Azure, "
        "which refuse both at once, as the caller sent it. What it refuses is learned.",
    )
    endpoints: tuple[EndpointName, ...] = setting(
        (),
        "The APIs it has. Empty: it is asked as callers ask, and what it refuses is learned; "
        "`anthropic` has `messages`, `gemini` has `generateContent`.",
    )
    image_tokens_max: Annotated[int, Meta(ge=0, le=10_000_000)] = setting(
        0,
        "The most LLM tokens that it bills for one picture; 0: what is known of the model's "
        "family, else 48,169 (gpt-4o-mini's largest).",
    )
    file_tokens_max: Annotated[int, Meta(ge=0, le=10_000_000)] = setting(
        0,
        "The most LLM tokens that it bills for one document, video or file by id; 0: the whole "
        "context is held.",
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class AliasSettings:
    deployments: tuple[str, ...] = setting(
        (), "Names of deployments, the first choice first.", required=True
    )
    output_tokens_max: Tokens = setting(
        16_384, "Most output tokens of one answer, also when the caller sets no limit."
    )
    context_tokens_max: Tokens = setting(128_000, "Most input and output tokens together.")
    reasoning: bool = setting(False, "The model thinks unseen before it answers.")
    timeout_s: Seconds = setting(600.0, "How long one call may take in all.")
    selection_policy: SelectionPolicyName = setting(
        "priority",
        "Order in which deployments are tried: as listed, in turn, by weight, the one with the "
        "fewest calls in flight, with the quickest first token, or the cheapest first.",
    )
    fallbacks: tuple[str, ...] = setting(
        (),
        "Aliases whose deployments are tried when all of its own fail, if the call's hold or "
        "the balance covers their price.",
    )
    limits: RateSettings = section(RateSettings, "What all callers together may send to it.")
    hedging: bool = setting(
        False,
        "Start a second attempt elsewhere when the first token is late. The account pays for the "
        "one it gets, the operator for the other.",
    )
    session_affinity: bool = setting(
        False,
        "Calls with the same `prompt_cache_key` or `user` (of Messages: `metadata`) keep to one "
        "deployment, for its cache.",
    )
