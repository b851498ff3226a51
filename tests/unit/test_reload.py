"""One road for settings: what a start gives out, a reload gives out, or names what it cannot."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import logging
import threading
import types
import typing
from collections import deque
from collections.abc import AsyncGenerator, Iterator, Mapping
from dataclasses import replace
from datetime import date, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any, Literal, cast

import pytest
import structlog
from tests.authority import make_authority

from merino.app import Relay
from merino.billing.desks import Billing
from merino.billing.nouns import PaymentEvent, TopUp
from merino.domain.errors import Conflict
from merino.live import Live, live_of
from merino.pricing.book import PriceBook
from merino.settings import Settings, load
from merino.settings.checks import check
from merino.settings.load import key_of, settable, unwrapped
from merino.settings.reloading import waiting_for_a_start
from merino.storage import Store
from merino.telemetry.hub import TelemetryPlan
from merino.telemetry.logs import configure_logs

BEFORE = """
[server]
unauthenticated_body_bytes_max = 10
[server.tls]
cert_file = "PEM"
key_file = "PEM"

[prices.groups.standard]
factor = "2.0"

[payments.stripe]
secret_key = "env:SECRET"
webhook_secret = "env:SECRET"
success_url = "https://example.org/good"
cancel_url = "https://example.org/bad"
[payments.invoice]

[notices]
webhook_url = "https://example.org/hook"
webhook_secret = "env:SECRET"
[notices.smtp]
host = "mail.example.org"
sender = "merino@example.org"
username = "me"
password = "env:SECRET"

[dashboard.oidc]
issuer = "https://id.example.org"
client_id = "merino"
client_secret = "env:SECRET"
operators = ["boss@example.org"]
accounts.default = { owners = ["ada@example.org"] }

[[sla.credits]]
below = 0.995
share = 0.1

[limits.accounts."*"]
rps = 70

[telemetry]
url = "http://127.0.0.1:9"
authorization = "env:SECRET"
metrics = true

[[sinks]]
name = "both"
url = "http://127.0.0.1:9"
secret = "env:SECRET"
path = "calls.jsonl"

[[deployments]]
name = "up"
base_url = "https://127.0.0.1:9/v1"
ca_file = "PEM"
price = { input = "1.00", output = "2.00" }
account_price = { input = "3.00", output = "4.00" }

[[deployments]]
name = "spare"
base_url = "http://127.0.0.1:9/v1"
price = { input = "1.00", output = "2.00" }

[aliases.other]
deployments = ["spare"]
output_tokens_max = 70

[[exchange_rates]]
base = "EUR"
quote = "USD"
rate = "1.1"
valid_from = 2026-01-01
"""

PRICES = """
provider = "openai"
source = "https://example.org"

[[price]]
model = "only-mine"
input = 1.0
output = 2.0
"""

OTHER_TEXTS: Mapping[str, Any] = {
    "host": "127.0.0.2",
    "base_url": "https://127.0.0.1:10/v1",
    "url": "https://127.0.0.1:11",
    "issuer": "https://other.example.org",
    "public_url": "https://relay.example.org",
    "terms_url": "https://relay.example.org/terms",
    "api_base": "http://127.0.0.1:9",
    "success_url": "https://example.org/other",
    "cancel_url": "https://example.org/other",
    "webhook_url": "https://example.org/other",
    "sender": "Other <other@example.org>",
    "to": ("other@example.org",),
    "base": "GBP",
    "quote": "CNY",
    "credential": "env:OTHER",
    "secret_key": "env:OTHER",
    "webhook_secret": "env:OTHER",
    "client_secret": "env:OTHER",
    "password": "env:OTHER",
    "authorization": "env:OTHER",
    "secret": "env:OTHER",
    "deployments": ("up", "spare"),
    "fallbacks": ("up",),
    "headers": {"x-other": "1"},
    "scopes": ("openid", "other"),
    "operators": ("other@example.org",),
    "owners": ("other@example.org",),
    "viewers": ("other@example.org",),
}
"""Texts that have a grammar, by the setting's own name."""

ENVIRON = {"SECRET": "s3cret-value", "OTHER": "another-value"}

Where = tuple[str | int, ...]


def settings_of(section: Any, where: Where = ()) -> Iterator[tuple[Where, Any, Any]]:
    """Each single setting: its place, its declaration, its type. Of tables in a list, the first."""
    hints = typing.get_type_hints(type(section), include_extras=True)
    for each in settable(type(section)):
        value, here = getattr(section, each.name), (*where, each.name)
        if each.metadata.get("sections"):
            yield from settings_of(value[0], (*here, 0))
        elif each.metadata.get("named_sections"):
            name = next(iter(value))
            yield from settings_of(value[name], (*here, name))
        elif hasattr(value, "__dataclass_fields__"):
            yield from settings_of(value, here)
        else:
            assert "section" not in each.metadata, f"{here}: this test needs such a table"
            yield here, each, hints[each.name]


def changed(section: Any, where: Where, value: Any) -> Any:
    """The tree with another value in one place."""
    if not where:
        return value
    step, *rest = where
    if isinstance(step, int):
        inner = changed(section[step], tuple(rest), value)
        return (*section[:step], inner, *section[step + 1 :])
    if isinstance(section, Mapping):
        return {**section, step: changed(section[step], tuple(rest), value)}
    return replace(section, **{step: changed(getattr(section, step), tuple(rest), value)})


def value_at(section: Any, where: Where) -> Any:
    for step in where:
        if isinstance(step, str) and not isinstance(section, Mapping):
            section = getattr(section, step)
        else:
            section = section[step]
    return section


def another(each: Any, hint: Any, value: Any, folder: Path) -> Any:
    """A legal value of a setting that is not `value`."""
    if each.name in OTHER_TEXTS:
        return OTHER_TEXTS[each.name]
    base, bounds = unwrapped(hint)
    if each.metadata.get("amount"):
        return (value or 0) + 1_000_000
    if base is bool:
        return not value
    if typing.get_origin(base) is Literal:
        return next(choice for choice in reversed(typing.get_args(base)) if choice != value)
    if base in (int, float, Decimal):
        meta = next(iter(getattr(hint, "__metadata__", ())), None)
        most = bounds.get("le", getattr(meta, "le", None) or 10**9)
        return base(next(n for n in (77, 7, 2, 1, Decimal("0.25")) if n <= most and n != value))
    if typing.get_origin(base) is tuple and typing.get_origin(typing.get_args(base)[0]) is Literal:
        return typing.get_args(typing.get_args(base)[0])[:1]
    return {
        str: "other",
        date: date(2026, 1, 1) + timedelta(days=1),
        Path: folder / "other.pem",
        tuple[str, ...]: ("other",),
        tuple[Path, ...]: (folder / "prices.toml",),
    }[base]


_PLAIN = (str, bytes, int, float, bool, type(None), Decimal, Path, date, PriceBook)
_ASKED_ANEW = (Live, Settings, TelemetryPlan)
"""What is in force by being looked at says nothing of what was handed out."""


def in_force(relay: Relay) -> dict[str, object]:
    """Every value that can be reached from the relay's parts, by the way to it. What pages look at
    in the settings themselves is a root of its own."""
    root = logging.getLogger()
    formatter: Any = root.handlers[0].formatter
    found: dict[str, object] = {"log": (root.level, type(formatter.processors[-1]).__name__)}
    found["public"] = relay._pages.settings().status.public
    seen: set[int] = set()
    todo = deque([("relay", cast("Any", relay)), ("oidc", relay._pages.oidc())])
    todo.append(("prices", relay._pages.prices()))
    while todo:
        way, value = todo.popleft()
        if isinstance(value, _PLAIN):
            found[way] = value
        elif id(value) not in seen and not isinstance(value, _ASKED_ANEW):
            seen.add(id(value))
            found[way] = type(value).__name__
            todo += [(f"{way}.{name}", each) for name, each in _inside(value)]
    return found


def _inside(value: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(value, Mapping):
        for number, (key, each) in enumerate(value.items()):
            yield f"key{number}", key
            yield str(key), each
    elif isinstance(value, (list, tuple, set, frozenset, deque)):
        yield from ((str(number), each) for number, each in enumerate(value))
    elif isinstance(value, types.MethodType):
        yield "self", value.__self__
    elif isinstance(value, functools.partial):
        yield from (("func", value.func), ("args", value.args), ("keywords", value.keywords))
    elif isinstance(value, types.FunctionType):
        for name, cell in zip(value.__code__.co_freevars, value.__closure__ or (), strict=True):
            yield name, cell.cell_contents
    elif type(value).__module__.startswith("merino."):
        slots = [name for kind in type(value).__mro__ for name in getattr(kind, "__slots__", ())]
        for name in dict.fromkeys([*slots, *getattr(value, "__dict__", ())]):
            if hasattr(value, name):
                yield name, getattr(value, name)


@pytest.fixture
def logs():
    """The process's logging, put back afterwards."""
    root = logging.getLogger()
    kept = root.handlers[:], root.level, structlog.get_config()
    yield
    root.handlers[:], level, config = kept
    root.setLevel(level)
    structlog.configure(**config)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, logs: None) -> Path:
    """Where all files are that the settings name; the price book is read once for each test."""
    pem, _ = make_authority(tmp_path)
    for name in ("first.pem", "other.pem"):
        (tmp_path / name).write_text(Path(pem).read_text())
    (tmp_path / "prices.toml").write_text(PRICES)
    (tmp_path / "merino.toml").write_text(BEFORE.replace("PEM", str(tmp_path / "first.pem")))
    monkeypatch.setattr(PriceBook, "load", staticmethod(functools.cache(PriceBook.load)))
    return tmp_path


def test_every_setting_takes_effect_or_is_reported(folder: Path) -> None:
    """Each single setting is changed: something that the relay's parts hold is another one then,
    or the setting is named as one that waits for a start."""
    asyncio.run(_change_each_setting(folder))


async def _change_each_setting(folder: Path) -> None:
    before = load(folder / "merino.toml", ENVIRON)
    configure_logs(before.log.format, before.log.level)
    store = Store.open(folder / "data")
    await store.start()
    try:
        await store.accounts.create("default")
        began = live_of(before, ENVIRON, store.accounts.get)
        relay = Relay(began, store, ENVIRON)
        at_first = in_force(relay)
        relay.apply(began)
        now = in_force(relay)
        moving = _ways_changed(at_first, now)
        without_effect: list[str] = []
        for where, each, hint in settings_of(before):
            value = another(each, hint, value_at(before, where), folder)
            settings = changed(before, where, value)
            name = ".".join(map(str, where))
            assert settings != before, name
            assert not check(settings, lambda text: text).problems, name
            told = waiting_for_a_start(before, settings)
            relay.apply(live_of(settings, ENVIRON, store.accounts.get))
            has_effect = not moving.issuperset(_ways_changed(now, in_force(relay)))
            relay.apply(began)
            now = in_force(relay)
            if told:
                shown = ".".join([*map(str, where[:-1]), key_of(each)])
                assert [shown] == [line.partition(" = ")[0] for line in told]
                assert not has_effect, name
            elif not has_effect:
                without_effect.append(name)
    finally:
        await store.close()

    assert [] == without_effect


def _ways_changed(one: Mapping[str, object], other: Mapping[str, object]) -> set[str]:
    return {way for way, _ in one.items() ^ other.items()}


@contextlib.asynccontextmanager
async def a_relay(folder: Path) -> AsyncGenerator[tuple[Relay, Store]]:
    """One that has begun with `BEFORE`."""
    settings = load(folder / "merino.toml", ENVIRON)
    configure_logs("text", "info")
    store = Store.open(folder / "data")
    await store.start()
    try:
        await store.accounts.create("default")
        yield Relay(live_of(settings, ENVIRON, store.accounts.get), store, ENVIRON), store
    finally:
        await store.close()


def rewrite(folder: Path, more: str) -> None:
    config = folder / "merino.toml"
    config.write_text(config.read_text() + more)


@pytest.mark.parametrize(
    ("more", "why"),
    [
        ("[hold]\nwait_s = -1\n", "hold.wait_s"),
        ("[prices.groups.other]\nfactor = 1.00000001\n", "more than six decimals"),
        ('[log]\nlevel = "debug"\n[stream]\nno = 1\n', "stream.no"),
    ],
)
def test_wrong_settings_change_nothing(
    folder: Path, capsys: pytest.CaptureFixture[str], more: str, why: str
) -> None:
    """Whatever is wrong, and wherever it is found: all stays as it is, and the log says why."""

    async def scenario() -> None:
        async with a_relay(folder) as (relay, _):
            assert relay.data_plane.fleet.secrets  # made when first asked for
            before, live = in_force(relay), relay.live
            rewrite(folder, more)
            await relay.reload()
            assert live is relay.live
            assert set() == _ways_changed(before, in_force(relay))

    asyncio.run(scenario())
    told = capsys.readouterr().err
    assert "settings not reloaded" in told
    assert why in told


def test_a_reload_names_what_waits_for_a_start(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """By the name that the file uses, with the value as it would be written there."""

    async def scenario() -> None:
        async with a_relay(folder) as (relay, _):
            rewrite(folder, '[credits]\nstart = 7\n[ledger]\ndurability = "power"\n')
            await relay.reload()
            assert "power" == relay.live.settings.ledger.durability

    asyncio.run(scenario())
    told = capsys.readouterr().err
    assert "take effect at the next start only" in told
    assert 'credits.start = "7.00"' in told
    assert "ledger.durability = power" in told


def test_a_reload_reads_the_price_book_once_and_off_the_loop(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Parsing it takes as long as many calls, which go on meanwhile."""
    read_by: list[str] = []
    load_book = PriceBook.load

    def noted(*args: Any, **options: Any) -> PriceBook:
        read_by.append(threading.current_thread().name)
        return load_book(*args, **options)

    async def scenario() -> None:
        async with a_relay(folder) as (relay, _):
            monkeypatch.setattr(PriceBook, "load", staticmethod(noted))
            await relay.reload()

    asyncio.run(scenario())
    assert 1 == len(read_by)
    assert threading.main_thread().name not in read_by


class SlowProvider:
    """A payment provider whose refunds take until `go_on`."""

    name = "stripe"
    is_confirmed_by_hand = False

    def __init__(self) -> None:
        self.is_asked, self.go_on = asyncio.Event(), asyncio.Event()

    async def refund(self, order: TopUp, minor: int, key: str, *, again: bool = False) -> None:
        self.is_asked.set()
        await self.go_on.wait()


def test_what_desks_remember_survives_a_reload(folder: Path) -> None:
    """A refund that is under way keeps the next one waiting, and an automatic top-up that was
    refused is not asked for again, whatever is reloaded meanwhile."""

    async def scenario() -> None:
        async with a_relay(folder) as (relay, store):
            desk, provider = relay.control.wing(Billing).topups, SlowProvider()
            desk.configure(relay.live.settings.payments, {"stripe": cast("Any", provider)})
            account = store.accounts.list()[0]
            order = await desk.order("default", 10**10, provider=cast("Any", provider))
            paid = PaymentEvent(
                "e1",
                "paid",
                order.id,
                payment_ref="p1",
                amount_minor=order.charge_minor,
                currency="USD",
                account_id=account.id,
            )
            await desk._book_own("stripe", paid)
            refund = asyncio.create_task(desk.refund(order.id, 10**9))
            await provider.is_asked.wait()
            relay.control.wing(Billing).automatic._refused[account.id] = (account, 0)
            await relay.reload()
            assert desk is relay.control.wing(Billing).topups
            with pytest.raises(Conflict, match="under way"):
                await relay.control.wing(Billing).topups.refund(order.id, 10**9)
            assert account.id in relay.control.wing(Billing).automatic._refused
            provider.go_on.set()
            await refund

    asyncio.run(scenario())
