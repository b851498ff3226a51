"""Every setting with its unit, its default and one sentence of meaning: the typed tree.

`load.py` fills it from TOML and the environment, `checks.py` looks across it, `catalog.py` turns it
into deployments and aliases, and `reference.py` prints it as documentation.
"""

# ruff: noqa: RUF009 - `setting` and its like return dataclass fields, not shared values
from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from msgspec import Meta

from merino.domain.deployment import OnDisconnect, SelectionPolicyName
from merino.domain.money import parse_nanos

T = TypeVar("T")

KIB = 1024
MIB = 1024 * KIB

Seconds = Annotated[float, Meta(gt=0, le=86_400)]
SecondsOrNone = Annotated[float, Meta(ge=0, le=86_400)]
Bytes = Annotated[int, Meta(ge=1, le=2**40)]
Tokens = Annotated[int, Meta(ge=1, le=2**31)]
Count = Annotated[int, Meta(ge=1, le=10**9)]
Share = Annotated[float, Meta(ge=0, le=1)]


def setting(default: T, doc: str, *, required: bool = False, secret: bool = False) -> T:
    """A setting's default and meaning. The type told to the checker is the value's own."""
    metadata = {"doc": doc, "required": required, "secret": secret}
    declared: Any = field(default=default, repr=not secret, metadata=metadata)
    return declared


def table(doc: str, *, secret: bool = False) -> Mapping[str, str]:
    """Texts under names of the operator's choice."""
    metadata = {"doc": doc, "secret": secret}
    declared: Any = field(default_factory=dict[str, str], repr=not secret, metadata=metadata)
    return declared


def amount(default: str, doc: str, *, key: str) -> int:
    """An amount of money, `key` in the file, kept as integer nano-units."""
    metadata = {"doc": doc, "key": key, "amount": True}
    declared: Any = field(default=parse_nanos(default), metadata=metadata)
    return declared


def optional_amount(doc: str, *, key: str) -> int | None:
    """An amount of money that may be left out."""
    declared: Any = field(default=None, metadata={"doc": doc, "key": key, "amount": True})
    return declared


def section(kind: type[T], doc: str) -> T:
    """A table of the file, with its own defaults."""
    declared: Any = field(default_factory=kind, metadata={"doc": doc})
    return declared


def optional_section(kind: type[T], doc: str) -> T | None:
    """A table of the file that may be left out."""
    declared: Any = field(default=None, metadata={"doc": doc, "section": kind})
    return declared


def sections(kind: type[T], doc: str) -> tuple[T, ...]:
    """An array of tables."""
    declared: Any = field(default=(), metadata={"doc": doc, "sections": kind})
    return declared


def named_sections(kind: type[T], doc: str) -> Mapping[str, T]:
    """Tables under names of the operator's choice."""
    declared: Any = field(
        default_factory=dict[str, T], metadata={"doc": doc, "named_sections": kind}
    )
    return declared


@dataclass(frozen=True, slots=True, kw_only=True)
class TlsSettings:
    cert_file: Path | None = setting(
        None, "PEM certificate chain; with `key_file` it turns HTTPS on."
    )
    key_file: Path | None = setting(None, "PEM private key of `cert_file`.")


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerSettings:
    host: str = setting("127.0.0.1", "Address to listen on; `0.0.0.0` for every interface.")
    port: Annotated[int, Meta(ge=0, le=65_535)] = setting(
        8080, "TCP port to listen on; 0 picks a free one."
    )
    drain_s: SecondsOrNone = setting(
        30.0, "How long running calls may go on after SIGTERM before they are cut and settled."
    )
    body_bytes_max: Bytes = setting(32 * MIB, "Largest request body.")
    unauthenticated_body_bytes_max: Bytes = setting(
        64 * KIB, "Largest request body of a caller whose key is not valid."
    )
    head_timeout_s: Seconds = setting(10.0, "How long a request's head may take to arrive.")
    body_timeout_s: Seconds = setting(60.0, "How long a request's body may take to arrive.")
    keep_alive_s: SecondsOrNone = setting(75.0, "How long an idle client connection is kept.")
    write_timeout_s: Seconds = setting(
        60.0, "How long a client may leave a full socket buffer unread before it is cut off."
    )
    tls: TlsSettings = section(TlsSettings, "HTTPS on the relay's own port.")


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamSettings:
    buffer_bytes: Bytes = setting(
        64 * KIB, "Most bytes buffered for a slow reader before the upstream is paused."
    )
    keep_alive_s: Seconds = setting(
        15.0, "Silence after which a comment line is sent, so that nobody in between hangs up."
    )
    event_bytes_max: Bytes = setting(1 * MIB, "Largest single event an upstream may send.")
    idle_timeout_s: Seconds = setting(
        60.0, "Longest silence of an upstream in mid-stream; a deployment may set its own."
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class CreditsSettings:
    start_nanos: int = amount(
        "5.00", "Credit of the first account, made at the first start.", key="start"
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class HoldSettings:
    mode: Literal["worst_case", "expected"] = setting(
        "worst_case",
        "What is held before a call: its worst case, or what calls like it have cost (p99).",
    )
    when_short: Literal["clamp", "refuse"] = setting(
        "clamp", "When the worst case is not affordable: lower the output limit, or refuse."
    )
    wait_s: SecondsOrNone = setting(
        5.0, "How long a call waits for credit that other running calls hold."
    )
    clamp_output_tokens_min: Tokens = setting(
        16, "Fewest output tokens a call is lowered to when nothing else is in flight."
    )
    clamp_floor_tokens: Tokens = setting(
        1024, "Output tokens below which a call rather waits for credit than be lowered further."
    )
    expires_after_s: Seconds = setting(
        900.0, "Age at which a hold that nobody resolved is released."
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class LedgerSettings:
    durability: Literal["process", "power"] = setting(
        "process",
        "What a settlement survives: the end of the process, or a power cut (slower: fsync).",
    )
    database_wait_s: SecondsOrNone = setting(
        5.0, "How long the database may refuse writes before new calls are refused with 503."
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class CallsSettings:
    keep_days: Annotated[int, Meta(ge=1, le=36_500)] = setting(
        90, "Days that call records are kept. Ledger entries are kept for good."
    )
    store_content: bool = setting(False, "Keep prompts and answers with the call records.")


@dataclass(frozen=True, slots=True, kw_only=True)
class IdempotencySettings:
    keep_s: Annotated[float, Meta(gt=0, le=30 * 86_400)] = setting(
        86_400.0, "How long the answer to an `Idempotency-Key` is kept."
    )
    answer_bytes_max: Bytes = setting(4 * MIB, "Largest answer kept for replay.")


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchesSettings:
    concurrency: Annotated[int, Meta(ge=1, le=10_000)] = setting(
        16, "Most calls of batches at once; fewer while other calls run."
    )
    tries_max: Annotated[int, Meta(ge=1, le=100)] = setting(
        5, "How often an item is tried before it ends with an error."
    )
    discount: Share = setting(
        0.0, "Share of the price that accounts save on calls of batches; 0.5 halves it."
    )
    keep_days: Annotated[int, Meta(ge=1, le=3650)] = setting(
        30, "Days that uploaded files and results are kept."
    )
    account_bytes_max: Bytes = setting(4096 * MIB, "Bytes of files that one account may keep.")


@dataclass(frozen=True, slots=True, kw_only=True)
class MarkupSettings:
    factor: Annotated[Decimal, Meta(extra={"ge": 0, "le": 1000})] = setting(
        Decimal("1.0"), "What accounts pay, as a multiple of what the upstream charges."
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupSettings:
    factor: Annotated[Decimal, Meta(extra={"ge": 0, "le": 1000})] = setting(
        Decimal("1.0"), "What its accounts pay, as a multiple of the account price."
    )
    fixed_nanos: int = amount("0", "Dollars added to every call that used anything.", key="fixed")
    minimum_nanos: int = amount(
        "0", "Dollars that such a call costs at least; free models stay free.", key="minimum"
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class PricesSettings:
    files: tuple[Path, ...] = setting(
        (), "Price files of your own; later files win over earlier ones and the built-in ones."
    )
    markup: MarkupSettings = section(MarkupSettings, "From cost to price.")
    groups: Mapping[str, GroupSettings] = named_sections(
        GroupSettings, "Margins by the pricing group of accounts; `standard` is the default group."
    )
    allow_unpriced: bool = setting(
        False, "Relay models without a price at no charge, instead of refusing them."
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class StripeSettings:
    secret_key: str = setting(
        "", "Stripe's secret key: `env:NAME` or `file:PATH`.", required=True, secret=True
    )
    webhook_secret: str = setting(
        "",
        "Signing secret of the webhook endpoint: `env:NAME` or `file:PATH`.",
        required=True,
        secret=True,
    )
    success_url: str = setting("", "Where the browser goes after paying.", required=True)
    cancel_url: str = setting("", "Where it goes when payment was given up.", required=True)
    payment_methods: tuple[str, ...] = setting(
        (), "Such as `card`, `alipay`, `wechat_pay`; left out: whatever the Stripe account offers."
    )
    tolerance_s: Seconds = setting(
        300.0, "How old, or how far ahead of our clock, an event's signature may be."
    )
    api_base: str | None = setting(None, "Address of Stripe's API, if it is not Stripe's own.")


@dataclass(frozen=True, slots=True, kw_only=True)
class InvoiceSettings:
    instructions: str = setting(
        "Transfer {amount} {currency} and give {reference} as the reference.",
        "What the payer is told; {amount}, {currency} and {reference} are filled in.",
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class PaymentsSettings:
    topup_min_nanos: int = amount("5.00", "Least one top-up may be.", key="topup_min")
    topup_max_nanos: int = amount("10000.00", "Most one top-up may be.", key="topup_max")
    stripe: StripeSettings | None = optional_section(
        StripeSettings, "Stripe Checkout; its events go to `/webhooks/stripe`."
    )
    automatic_per_day_max: Annotated[int, Meta(ge=1, le=1000)] = setting(
        5, "Most top-ups an account's own rule may order within 24 hours."
    )
    invoice: InvoiceSettings | None = optional_section(
        InvoiceSettings, "Bank transfer, confirmed by an operator."
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class SmtpSettings:
    host: str = setting("", "The mail server that takes notices.", required=True)
    port: Annotated[int, Meta(ge=1, le=65_535)] = setting(587, "Its port.")
    security: Literal["starttls", "tls", "none"] = setting(
        "starttls", "How the connection is encrypted; `none` only where nobody can listen."
    )
    sender: str = setting(
        "", "Whom notices come from: `Merino <merino@example.org>`.", required=True
    )
    username: str = setting("", "Whom to log in as; left out: no login.")
    password: str = setting("", "Its password: `env:NAME` or `file:PATH`.", secret=True)
    to: tuple[str, ...] = setting(
        (), "Who gets every notice, besides the account's own `notice_email`."
    )
    ca_file: Path | None = setting(
        None, "PEM certificates to trust for this server instead of the system's."
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class NoticesSettings:
    webhook_url: str | None = setting(
        None, "Where notices of low balances, caps and top-ups are sent by POST."
    )
    webhook_secret: str = setting(
        "", "What they are signed with: `env:NAME` or `file:PATH`.", secret=True
    )
    smtp: SmtpSettings | None = optional_section(
        SmtpSettings, "Mail to account owners, beside the webhook or instead of it."
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class ExchangeRateSettings:
    base: str = setting("", "A currency: USD, EUR, CNY, GBP, HKD or JPY.", required=True)
    quote: str = setting("", "Another one.", required=True)
    rate: Annotated[Decimal, Meta(extra={"ge": 0, "le": 1_000_000})] = setting(
        Decimal(0), "How much of `quote` one of `base` is, to six decimals.", required=True
    )
    valid_from: date = setting(
        date(1970, 1, 1), "The day (UTC) from which on it is used.", required=True
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class OidcAccountSettings:
    owners: tuple[str, ...] = setting((), "Who owns it: sees it and changes it.")
    owner_groups: tuple[str, ...] = setting((), "Groups whose members own it.")
    viewers: tuple[str, ...] = setting((), "Who sees it and changes nothing.")
    viewer_groups: tuple[str, ...] = setting((), "Groups whose members see it.")


@dataclass(frozen=True, slots=True, kw_only=True)
class OidcSettings:
    name: str = setting("OpenID Connect", 'What the button says: "Sign in with ...".')
    issuer: str = setting(
        "",
        "The provider's address, exactly as it calls itself: `https://id.example.org`.",
        required=True,
    )
    client_id: str = setting("", "What the provider calls this relay.", required=True)
    client_secret: str = setting(
        "",
        "What the relay proves itself with: `env:NAME` or `file:PATH`; left out: with PKCE alone.",
        secret=True,
    )
    scopes: tuple[str, ...] = setting(
        ("openid", "email", "profile"), "What the provider is asked for."
    )
    claim: str = setting(
        "email", "The claim that says who somebody is. `email` must be a verified one."
    )
    groups_claim: str = setting(
        "groups", "The claim with somebody's groups; dots lead inwards: `realm_access.roles`."
    )
    operators: tuple[str, ...] = setting(
        (), "Who may see and change everything. `@example.org` is everybody with such an address."
    )
    operator_groups: tuple[str, ...] = setting((), "Groups whose members may.")
    account_claim: str = setting(
        "", "A claim with the name or id of the account somebody belongs to; none: no such rule."
    )
    account_role: Literal["owner", "viewer"] = setting(
        "viewer", "What who belongs to an account by that claim is there."
    )
    public_url: str | None = setting(
        None,
        "Where browsers reach the relay: `https://relay.example.org`; left out: as they asked.",
    )
    ca_file: Path | None = setting(
        None, "PEM certificates to trust for this server instead of the system's."
    )
    accounts: Mapping[str, OidcAccountSettings] = named_sections(
        OidcAccountSettings, "Owners and viewers of accounts, by the account's name or id."
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class DashboardSettings:
    oidc: OidcSettings | None = optional_section(
        OidcSettings,
        "Sign-in through an OpenID Connect provider, beside keys; needs `merino[oidc]`.",
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class StatusSettings:
    public: bool = setting(False, "Show `/status` and `/status.json` to everybody.")
    objective: Annotated[float, Meta(ge=0, le=0.99999)] = setting(
        0.995, "Share of calls that shall be answered, for the error budget."
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class LogSettings:
    format: Literal["text", "json"] = setting("text", "Log lines for people or for machines.")
    level: Literal["debug", "info", "warning", "error"] = setting(
        "info", "Least severe events to write."
    )
    calls: bool = setting(False, "Write one line per call.")


@dataclass(frozen=True, slots=True, kw_only=True)
class SimulatorSettings:
    enabled: bool = setting(True, "Offer the built-in simulated models `sim/...`.")
    seed: Annotated[int, Meta(ge=0, le=2**63 - 1)] = setting(
        0, "The same seed gives the same answers."
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class UpstreamSettings:
    connections_max_per_origin: Annotated[int, Meta(ge=1, le=100_000)] = setting(
        1000, "Most connections to one upstream host."
    )
    idle_s: SecondsOrNone = setting(30.0, "How long an idle upstream connection is kept.")
    connect_timeout_s: Seconds = setting(
        5.0, "How long connecting to an upstream, with TLS, may take."
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class PriceSettings:
    """A price of one's own, as amounts per million tokens."""

    input_nanos: int = amount("0", "Per million input tokens.", key="input")
    output_nanos: int = amount("0", "Per million output tokens.", key="output")
    cached_nanos: int | None = optional_amount(
        "Per million input tokens read from the cache; as `input` if left out.", key="cached"
    )
    cache_write_nanos: int | None = optional_amount(
        "Per million input tokens written to the cache; as `input` if left out.", key="cache_write"
    )
    image_input_nanos: int | None = optional_amount(
        "Per million image input tokens; as `input` if left out.", key="image_input"
    )
    audio_input_nanos: int | None = optional_amount(
        "Per million audio input tokens; as `input` if left out.", key="audio_input"
    )
    audio_output_nanos: int | None = optional_amount(
        "Per million audio output tokens; as `output` if left out.", key="audio_output"
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class RateSettings:
    rps: Count | None = setting(None, "Requests per second; as many at once.")
    rpm: Count | None = setting(None, "Requests per minute; as many at once.")
    tpm: Count | None = setting(
        None, "LLM tokens per minute; a call takes its estimate and gets back what it did not use."
    )
    concurrency: Count | None = setting(None, "Calls in flight.")


@dataclass(frozen=True, slots=True, kw_only=True)
class AccountRateSettings:
    rps: Count | None = setting(None, "Requests per second; as many at once.")
    rpm: Count | None = setting(None, "Requests per minute; as many at once.")
    tpm: Count | None = setting(None, "LLM tokens per minute.")
    concurrency: Count | None = setting(None, "Calls in flight.")
    weight: Annotated[float, Meta(gt=0, le=1000)] = setting(
        1.0, "Its share of the turns when calls of several accounts wait."
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class LimitsSettings:
    wait_s: SecondsOrNone = setting(
        0.0, "How long a call may wait for its turn instead of being refused with 429; 0: not."
    )
    waiting_max: Count = setting(1000, "Most calls that wait at once; the next are refused.")
    accounts: Mapping[str, AccountRateSettings] = named_sections(
        AccountRateSettings,
        "Limits of accounts, by name or id; `*` is every other account. What `merino accounts "
        "update` sets on the account itself stands above them, value by value.",
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class RetriesSettings:
    attempts_max: Annotated[int, Meta(ge=1, le=10)] = setting(
        3, "Most attempts of one call, the first included."
    )
    backoff_base_s: Seconds = setting(
        0.05, "Full jitter before attempt n+1 at a deployment: 0 to this times 2 to the n."
    )
    backoff_throttled_s: Seconds = setting(1.0, "The same after the upstream said 429.")
    backoff_max_s: Seconds = setting(20.0, "Most that is waited before an attempt.")
    budget_share: Share = setting(
        0.2, "Attempts beyond the first, as a share of a deployment's calls."
    )
    budget_min: Annotated[int, Meta(ge=0, le=1000)] = setting(
        3, "Such attempts allowed per 10 s whatever the traffic is."
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class BreakerSettings:
    window_s: Seconds = setting(60.0, "How far back outcomes count.")
    outcomes_min: Count = setting(10, "Fewest outcomes in the window that can open it.")
    failure_share: Annotated[float, Meta(gt=0, le=1)] = setting(
        0.5, "Share of failures and slow calls that opens it."
    )
    consecutive_failures: Count = setting(5, "Failures in a row that open it at once.")
    slow_first_token_s: SecondsOrNone = setting(
        0.0, "Time to first token that counts as a failure; 0: none does."
    )
    open_s: Seconds = setting(15.0, "How long it stays open the first time; then it doubles.")
    open_max_s: Seconds = setting(300.0, "Longest it stays open.")
    probes_max: Annotated[int, Meta(ge=1, le=100)] = setting(
        3, "Trial calls that must succeed, one at a time at first, before it closes."
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class HedgingSettings:
    delay_min_s: SecondsOrNone = setting(1.0, "Least wait before a second attempt is started.")
    samples_min: Count = setting(
        100, "First-token times that must be known before any call is hedged."
    )
    budget_share: Share = setting(0.05, "Hedges as a share of calls.")


@dataclass(frozen=True, slots=True, kw_only=True)
class DeploymentSettings:
    name: str = setting("", "The name aliases, logs and reports use.", required=True)
    provider: Literal["openai", "simulator"] = setting(
        "openai", "The dialect: `openai` for every OpenAI-compatible server."
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
    first_token_timeout_s: Seconds = setting(300.0, "Longest wait for the first content.")
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
        "Calls with the same `prompt_cache_key` or `user` keep to one deployment, for its cache.",
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    server: ServerSettings = section(ServerSettings, "The relay's own port.")
    stream: StreamSettings = section(StreamSettings, "Streamed answers.")
    credits: CreditsSettings = section(CreditsSettings, "Credit given by itself.")
    hold: HoldSettings = section(HoldSettings, "Credit reserved before each call.")
    ledger: LedgerSettings = section(LedgerSettings, "The books.")
    calls: CallsSettings = section(CallsSettings, "What is remembered of each call.")
    idempotency: IdempotencySettings = section(IdempotencySettings, "Repeated calls.")
    batches: BatchesSettings = section(BatchesSettings, "`/v1/files` and `/v1/batches`.")
    prices: PricesSettings = section(PricesSettings, "What calls cost.")
    payments: PaymentsSettings = section(PaymentsSettings, "Top-ups that are paid for.")
    notices: NoticesSettings = section(NoticesSettings, "What account owners are told.")
    dashboard: DashboardSettings = section(DashboardSettings, "The dashboard.")
    status: StatusSettings = section(StatusSettings, "The status page.")
    exchange_rates: tuple[ExchangeRateSettings, ...] = sections(
        ExchangeRateSettings, "Exchange rates, besides those of `merino rates`; dated."
    )
    log: LogSettings = section(LogSettings, "Log lines.")
    simulator: SimulatorSettings = section(SimulatorSettings, "The built-in provider.")
    upstream: UpstreamSettings = section(UpstreamSettings, "Connections to providers.")
    limits: LimitsSettings = section(LimitsSettings, "Requests, LLM tokens and calls in flight.")
    retries: RetriesSettings = section(RetriesSettings, "Further attempts of a call.")
    breaker: BreakerSettings = section(BreakerSettings, "When a deployment is left alone.")
    hedging: HedgingSettings = section(HedgingSettings, "Second attempts of slow calls.")
    deployments: tuple[DeploymentSettings, ...] = sections(
        DeploymentSettings, "Where calls go, one table each."
    )
    aliases: Mapping[str, AliasSettings] = named_sections(
        AliasSettings, "The model names callers send, one table each."
    )
    path: Path | None = field(default=None)
    """The file this was read from."""
    warnings: tuple[str, ...] = field(default=())
    """What is allowed but unwise, worded for the operator."""
