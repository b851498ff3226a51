"""Which deployments and aliases a relay offers: the file's, or what its environment allows.

Without any `[[deployments]]`, every provider whose usual environment variable is set is offered
with all its priced models; the simulator is offered always, unless it is switched off.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit

from merino.domain.addition import AdditionKind, Place
from merino.domain.deployment import Alias, Deployment, LimitNaming
from merino.domain.errors import Misconfigured
from merino.domain.limits import limits_in
from merino.settings.built_in import built_in_names
from merino.settings.checks import url_fault
from merino.settings.credentials import read_secret
from merino.settings.sections.deployments import DeploymentSettings
from merino.settings.sections.prices import PriceSettings
from merino.settings.tree import Settings


@dataclass(frozen=True, slots=True)
class KnownProvider:
    """A provider that one environment variable is enough to offer."""

    name: str
    base_url: str
    dialect: str = "openai"

    @property
    def credential_variable(self) -> str:
        return f"{self.name.upper()}_API_KEY"

    @property
    def base_url_variable(self) -> str:
        return f"{self.name.upper()}_BASE_URL"


KNOWN_PROVIDERS = (
    KnownProvider("openai", "https://api.openai.com/v1"),
    KnownProvider("deepseek", "https://api.deepseek.com/v1"),
    KnownProvider("openrouter", "https://openrouter.ai/api/v1"),
    KnownProvider("anthropic", "https://api.anthropic.com/v1", "anthropic"),
    KnownProvider("gemini", "https://generativelanguage.googleapis.com/v1beta/openai"),
)
"""In order of priority for plain model names. Those of the dialect `openai` are asked through their
OpenAI-compatible API."""


@dataclass(frozen=True, slots=True)
class TokenCeilings:
    output_tokens_max: int
    context_tokens_max: int
    reasoning: bool = False


_DEFAULT_CEILINGS = TokenCeilings(16_384, 128_000)
_CEILINGS: tuple[tuple[re.Pattern[str], TokenCeilings], ...] = tuple(
    (re.compile(pattern), ceilings)
    for pattern, ceilings in (
        (r"o[134](-|$)", TokenCeilings(100_000, 200_000, reasoning=True)),
        (r"gpt-5.*-chat", TokenCeilings(16_384, 128_000)),
        (r"gpt-5", TokenCeilings(128_000, 400_000, reasoning=True)),
        (r"gpt-4\.1", TokenCeilings(32_768, 1_047_576)),
        (r"gpt-3\.5", TokenCeilings(4_096, 16_385)),
        (r"deepseek-(reasoner|r1)", TokenCeilings(65_536, 131_072, reasoning=True)),
        (r"deepseek", TokenCeilings(8_192, 131_072)),
        (r"claude-3-", TokenCeilings(8_192, 200_000)),
        (r"claude", TokenCeilings(64_000, 200_000)),
        (r"gemini-2\.[5-9]|gemini-[3-9]", TokenCeilings(65_536, 1_048_576, reasoning=True)),
        (r"gemini", TokenCeilings(8_192, 1_048_576)),
    )
)
"""What model families allow, for models nobody described in a file. First match wins."""


Source = Literal["file", "environment", "added", "built in"]


@dataclass(frozen=True, slots=True)
class Catalog:
    """`sources` say where a deployment or an alias is from. `ca_files`, `prices` and
    `account_prices` are by deployment name, where a deployment has any. `providers` names what was
    found in the environment; `is_simulated` says that nothing but the simulator answers.
    """

    deployments: tuple[Deployment, ...]
    aliases: tuple[Alias, ...]
    ca_files: Mapping[str, Path]
    prices: Mapping[str, PriceSettings]
    account_prices: Mapping[str, PriceSettings]
    providers: tuple[str, ...]
    is_simulated: bool
    sources: Mapping[Place, Source] = field(default_factory=dict[Place, Source])

    @property
    def without_models(self) -> tuple[KnownProvider, ...]:
        """Providers found in the environment of which nothing is offered: the price book has none
        of their models, so nobody could be billed."""
        offered = {name.partition("/")[0] for name in (each.name for each in self.deployments)}
        return tuple(
            each
            for each in KNOWN_PROVIDERS
            if each.name in self.providers and each.name not in offered
        )


def resolve(
    settings: Settings,
    environ: Mapping[str, str],
    priced_models: Iterable[tuple[str, str]] = (),
) -> Catalog:
    """`priced_models` are the (provider, model) pairs the price book lists.

    Raises `Misconfigured` when a credential's variable or file is gone since `load`.
    """
    folder = (settings.path or Path()).absolute().parent
    deployments: dict[str, Deployment] = {}
    aliases: dict[str, Alias] = {}
    providers: tuple[str, ...] = ()
    for declared in settings.deployments:
        deployments[declared.name] = _declared(declared, settings, folder, environ)
    if not any(("deployment", name) not in settings.added for name in deployments):
        providers = _offer_environment(deployments, aliases, settings, environ, priced_models)
    is_simulated = all(each.provider == "simulator" for each in deployments.values())
    built_in = _built_in(settings)
    _add_declared(aliases, {**built_in, **deployments}, settings)
    used = {each for alias in settings.aliases.values() for each in alias.deployments}
    for declared in settings.deployments:
        name = declared.name
        if name not in used and name not in aliases:
            aliases[name] = _offered(name, deployments[name])
    for name, deployment in built_in.items():
        known = deployments.setdefault(name, deployment)
        for alias in (name, deployment.upstream_model) if is_simulated else (name,):
            aliases.setdefault(alias, _offered(alias, known))
    return Catalog(
        deployments=tuple(deployments.values()),
        aliases=tuple(aliases.values()),
        ca_files={each.name: each.ca_file for each in settings.deployments if each.ca_file},
        prices={each.name: each.price for each in settings.deployments if each.price},
        account_prices={
            each.name: each.account_price for each in settings.deployments if each.account_price
        },
        providers=providers,
        is_simulated=is_simulated and bool(deployments),
        sources=_sources(settings, deployments, aliases),
    )


def _sources(
    settings: Settings, deployments: Mapping[str, Deployment], aliases: Mapping[str, Alias]
) -> dict[Place, Source]:
    """An alias that nobody described is from where its deployment is."""
    declared = {each.name for each in settings.deployments}

    def source(kind: AdditionKind, name: str, *, is_declared: bool) -> Source:
        if (kind, name) in settings.added:
            return "added"
        if is_declared:
            return "file"
        built_in = name in built_in_names(settings)
        return "built in" if built_in else "environment"

    found: dict[Place, Source] = {
        ("deployment", name): source("deployment", name, is_declared=name in declared)
        for name in deployments
    }
    for name, alias in aliases.items():
        if name in settings.aliases:
            found["alias", name] = source("alias", name, is_declared=True)
        else:
            found["alias", name] = found["deployment", alias.deployments[0].name]
    return found


def _add_declared(
    aliases: dict[str, Alias], deployments: Mapping[str, Deployment], settings: Settings
) -> None:
    """Those of the settings; they may name what is built in, too."""
    for name, alias in settings.aliases.items():
        aliases[name] = Alias(
            name=name,
            deployments=tuple(deployments[each] for each in alias.deployments),
            output_tokens_max=alias.output_tokens_max,
            context_tokens_max=alias.context_tokens_max,
            reasoning=alias.reasoning,
            timeout_s=alias.timeout_s,
            selection_policy=alias.selection_policy,
            limits=limits_in(alias.limits),
            hedging=alias.hedging,
            session_affinity=alias.session_affinity,
        )
    _add_standins(aliases, deployments, settings)


def _add_standins(
    aliases: dict[str, Alias], deployments: Mapping[str, Deployment], settings: Settings
) -> None:
    for name, declared in settings.aliases.items():
        alias = aliases[name]
        standins: dict[str, Deployment] = {}
        for fallback in declared.fallbacks:
            other = settings.aliases.get(fallback)
            for wanted in (fallback,) if other is None else other.deployments:
                standins[wanted] = deployments[wanted]
        for own in alias.deployments:
            standins.pop(own.name, None)
        if standins:
            aliases[name] = replace(alias, standins=tuple(standins.values()))


def ceilings_of(model: str) -> TokenCeilings:
    """What a model's family is known to allow. A provider's prefix (`openai/o3`) is ignored."""
    plain = model.rpartition("/")[2]
    return next((each for pattern, each in _CEILINGS if pattern.match(plain)), _DEFAULT_CEILINGS)


def _declared(
    declared: DeploymentSettings, settings: Settings, folder: Path, environ: Mapping[str, str]
) -> Deployment:
    def secret(text: str, key: str) -> str:
        try:
            return read_secret(text, folder=folder, environ=environ)
        except ValueError as error:
            raise Misconfigured(f"deployment {declared.name}: {key}: {error}") from None

    upstream_model = declared.upstream_model or declared.name
    return Deployment(
        name=declared.name,
        provider=declared.provider,
        upstream_model=upstream_model,
        base_url=declared.base_url.rstrip("/"),
        credential=secret(declared.credential, "credential") if declared.credential else "",
        price_model=declared.price_model or upstream_model,
        on_disconnect=declared.on_disconnect,
        connect_timeout_s=settings.upstream.connect_timeout_s,
        first_token_timeout_s=declared.first_token_timeout_s,
        answer_timeout_s=declared.answer_timeout_s,
        idle_timeout_s=declared.idle_timeout_s or settings.stream.idle_timeout_s,
        headers=tuple(
            (name, secret(text, f"headers.{name}")) for name, text in declared.headers.items()
        ),
        weight=declared.weight,
        limits=limits_in(declared.limits),
        adaptive_concurrency=declared.adaptive_concurrency,
        health_check_s=declared.health_check_s,
        limit_naming=_limit_naming(
            declared.output_limit_names, declared.provider, declared.base_url
        ),
        endpoints=declared.endpoints or _OWN_ENDPOINTS.get(declared.provider, ()),
        picture_tokens_max=declared.image_tokens_max,
        file_tokens_max=declared.file_tokens_max,
    )


_OWN_ENDPOINTS = {"anthropic": ("messages",), "gemini": ("generateContent",)}
"""What dialects with an API of their own have."""
_REFUSING_BOTH = re.compile(r"(?:^|\.)(?:openai\.com|(?:openai|cognitiveservices)\.azure\.com)$")


def _limit_naming(
    wanted: LimitNaming | Literal["auto"], provider: str, base_url: str
) -> LimitNaming:
    """OpenAI and Azure refuse a call with both names, and never ignore one: asking them to find
    out would cost a call. The simulator obeys either."""
    if wanted != "auto":
        return wanted
    host = urlsplit(base_url).hostname or ""
    return "as_sent" if provider == "simulator" or _REFUSING_BOTH.search(host) else "both"


def _offer_environment(
    deployments: dict[str, Deployment],
    aliases: dict[str, Alias],
    settings: Settings,
    environ: Mapping[str, str],
    priced_models: Iterable[tuple[str, str]],
) -> tuple[str, ...]:
    models: dict[str, list[str]] = {}
    for provider, model in priced_models:
        models.setdefault(provider, []).append(model)
    found: list[str] = []
    offered: dict[str, Deployment] = {}
    for provider in KNOWN_PROVIDERS:
        credential = environ.get(provider.credential_variable, "").strip()
        if not credential:
            continue
        base_url = environ.get(provider.base_url_variable, "").strip() or provider.base_url
        if fault := url_fault(base_url):
            raise Misconfigured(f"environment: {provider.base_url_variable}: {fault}")
        found.append(provider.name)
        for model in models.get(provider.name, []):
            name = f"{provider.name}/{model}"
            if name in deployments:
                continue
            offered[name] = Deployment(
                name=name,
                provider=provider.dialect,
                upstream_model=model,
                base_url=base_url.rstrip("/"),
                credential=credential,
                # With the provider's name: its base URL may be a proxy's.
                price_model=name,
                connect_timeout_s=settings.upstream.connect_timeout_s,
                idle_timeout_s=settings.stream.idle_timeout_s,
                limit_naming=_limit_naming("auto", provider.dialect, base_url),
                endpoints=_OWN_ENDPOINTS.get(provider.dialect, ()),
            )
            aliases[name] = _offered(name, offered[name])
    deployments.update(offered)
    for deployment in offered.values():
        # The plain name goes to the first provider that has the model.
        plain = deployment.upstream_model
        if plain not in aliases:
            aliases[plain] = _offered(plain, deployment)
    return tuple(found)


def _built_in(settings: Settings) -> dict[str, Deployment]:
    return {
        name: Deployment(
            name=name,
            provider="simulator",
            upstream_model=name.removeprefix("sim/"),
            price_model=name.removeprefix("sim/"),
            limit_naming="as_sent",
            connect_timeout_s=settings.upstream.connect_timeout_s,
            idle_timeout_s=settings.stream.idle_timeout_s,
        )
        for name in built_in_names(settings)
    }


def _offered(name: str, deployment: Deployment) -> Alias:
    """An alias nobody described: one deployment, with the ceilings its family is known for."""
    ceilings = ceilings_of(deployment.upstream_model)
    return Alias(
        name=name,
        deployments=(deployment,),
        output_tokens_max=ceilings.output_tokens_max,
        context_tokens_max=ceilings.context_tokens_max,
        reasoning=ceilings.reasoning,
    )
