"""How every page looks, measured in a real browser: at three widths, in light and dark."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.conftest import RelayProcess
from tests.planted import CONFIG, plant

sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
Axe = pytest.importorskip("axe_playwright_python.sync_playwright").Axe
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine")

AXE = Axe().axe_script
LOOKS = (Path(__file__).parent / "looks.js").read_text()
CALLS = 6_000
WIDTHS = (1200, 2560, 360)
FEW_ROWS = "document.querySelectorAll('tbody tr:nth-child(n+5)').forEach((row) => row.remove())"
"""The rows of a table are alike: axe-core, which is slow, need not read them all."""
LONG = "arn:aws:bedrock:eu-central-1:123456789012:inference-profile/eu.anthropic.claude-sonnet"
PAGES = (
    "", "?window=30d&by=key&show=errors", "?window=7d&by=deployment&show=first_token",
    "/calls", "/calls?view=failures", "/calls?status=5xx&key=acme-web&alias=o3",
    "/calls?col=status&col=user&col=tags&col=metadata&col=address&col=cost", "?by=user",
    "/calls/{call}", "/models", "/models?of=azure-o3", "/models?heat=first_token&hours=7d", "/limits", "/keys", "/keys/{key}", "/accounts", "/accounts/{account}",
    "/accounts/{account}/statement", "/playground", "/playground?call={call}", "/roi", "/benchmarks", "/settings", "/audit",
    "/admin-keys", "/design", "/nope",
)  # fmt: skip


@pytest.fixture(scope="module")
def planted(tmp_path_factory) -> Iterator[tuple[RelayProcess, object]]:
    data = tmp_path_factory.mktemp("looks") / "data"
    made = asyncio.run(plant(data, CALLS))
    config = CONFIG.replace('name = "deepseek-r1"', f'name = "{LONG}"').replace(
        '["deepseek-r1"]', f'["{LONG}"]'
    )
    relay = RelayProcess(data, config, env={}).start()
    yield relay, made
    assert 0 == relay.stop()


@pytest.fixture(scope="module")
def chromium() -> Iterator[object]:
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


def opened(relay, made, chromium, scheme: str, width: int, complaints: list[str]):
    context = chromium.new_context(
        color_scheme=scheme, viewport={"width": width, "height": 900}, reduced_motion="reduce"
    )
    context.request.post(f"{relay.url}/dashboard/sign-in", form={"key": made.admin_key})
    page = context.new_page()
    page.on("pageerror", lambda error: complaints.append(f"{page.url}: {error}"))
    page.on(
        "console",
        lambda said: (
            complaints.append(f"{page.url}: {said.text}")
            if said.type in ("error", "warning") and "404" not in said.text
            else None
        ),
    )
    return page


def at_width(page, width: int) -> list[str]:
    """What is wrong at a width, once everything has followed it."""
    page.set_viewport_size({"width": width, "height": 900})
    page.evaluate("new Promise((done) => requestAnimationFrame(() => setTimeout(done, 60)))")
    return [f"{width}: {each}" for each in page.evaluate(LOOKS)]


def audited(page, **options) -> list[str]:
    """What axe-core, which the page has loaded, finds."""
    found = page.evaluate(
        "options => axe.run(document, options)", {"resultTypes": ["violations"], **options}
    )
    return [f"{each['id']}: {each['nodes'][0]['html'][:200]}" for each in found["violations"]]


def test_every_page_looks_right(planted, chromium) -> None:
    """At three widths nothing is clipped, lies over another or breaks in a number; columns line up;
    controls of a row are equal; nothing is logged; axe-core finds nothing on a screen and on a
    phone, nor in the colours of the dark."""
    relay, made = planted
    complaints: list[str] = []
    page = opened(relay, made, chromium, "light", WIDTHS[0], complaints)
    names = {
        "call": made.call_with_content,
        "key": made.keys["etl-backfill"],
        "account": made.accounts["acme"],
    }
    faults = {}
    for path in (*(f"/dashboard{each}" for each in PAGES), "/status"):
        page.emulate_media(color_scheme="light")
        page.set_viewport_size({"width": WIDTHS[0], "height": 900})
        page.goto(relay.url + path.format(**names))
        page.wait_for_function("document.fonts.status === 'loaded'")
        if page.locator("figure[data-chart]").count():
            page.wait_for_selector(".u-over")
        found = page.evaluate(LOOKS)
        for width in WIDTHS[1:]:
            found += at_width(page, width)
        page.evaluate(FEW_ROWS)
        page.evaluate(AXE)
        found += audited(page)
        page.emulate_media(color_scheme="dark")
        found += audited(page, runOnly={"type": "rule", "values": ["color-contrast"]})
        page.set_viewport_size({"width": WIDTHS[0], "height": 900})
        found += audited(page, rules={"color-contrast": {"enabled": False}})
        if found:
            faults[path] = found
    page.context.close()
    assert "" == "\n".join(f"{path}: {each}" for path, found in faults.items() for each in found)
    assert [] == complaints


def test_a_chart_can_be_asked(planted, chromium) -> None:
    """Hovering and the keyboard tell a slot's figures; dragging, and Shift with arrows and Enter,
    zoom in; all of it stays in the address."""
    relay, made = planted
    page = opened(relay, made, chromium, "light", 1200, [])
    page.goto(f"{relay.url}/dashboard?window=30d&by=key")
    over = page.locator(".u-over")
    over.wait_for()
    over.scroll_into_view_if_needed()
    box = over.bounding_box()
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + 60)
    tip = page.locator(".tip")
    tip.wait_for()
    assert "Total" in tip.inner_text()
    page.locator("figure .area").focus()
    page.keyboard.press("End")
    page.keyboard.press("Shift+ArrowLeft")
    page.keyboard.press("Shift+ArrowLeft")
    assert "Total" in page.locator("figure > .sr[aria-live]").inner_text()
    page.keyboard.press("Enter")
    page.wait_for_url("**since=*until=*")
    assert "by=key" in page.url
    over = page.locator(".u-over")
    over.wait_for()
    over.scroll_into_view_if_needed()
    before = page.url
    box = over.bounding_box()
    page.mouse.move(box["x"] + box["width"] * 0.2, box["y"] + 50)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] * 0.6, box["y"] + 60, steps=4)
    page.mouse.up()
    page.wait_for_function("before => location.href !== before", arg=before)
    page.locator(".legend a").first.click()
    page.wait_for_url("**key=*")
    assert page.locator(".chip", has_text="Key").count() == 1
    page.context.close()


def test_pages_are_read_without_scripts(planted, chromium) -> None:
    """The chart is drawn, moments say UTC, every page of the menu is there, and a form can be sent."""
    relay, made = planted
    context = chromium.new_context(
        java_script_enabled=False, viewport={"width": 360, "height": 800}
    )
    context.request.post(f"{relay.url}/dashboard/sign-in", form={"key": made.admin_key})
    page = context.new_page()
    page.goto(f"{relay.url}/dashboard?window=30d")
    assert page.locator("figure .area svg").is_visible()
    assert page.get_by_role("link", name="Audit").is_visible()
    assert page.locator(".cards-on-phones time").first.inner_text().endswith("UTC")
    page.goto(f"{relay.url}/dashboard/accounts")
    page.get_by_role("link", name="New account").click()
    page.get_by_label("Name").fill("without scripts")
    page.get_by_role("button", name="Open account").click()
    page.wait_for_url("**/accounts/acct_*")
    context.close()


def test_the_reader_chooses_light_or_dark(planted, chromium) -> None:
    """For this page and the next; the chart is drawn anew in its colours."""
    relay, made = planted
    page = opened(relay, made, chromium, "light", 1200, [])
    page.goto(f"{relay.url}/dashboard")
    page.get_by_role("button", name="Light or dark").click()
    assert "dark" == page.evaluate("document.documentElement.dataset.theme")
    page.goto(f"{relay.url}/dashboard/calls")
    assert "rgb(12, 15, 19)" == page.evaluate("getComputedStyle(document.body).backgroundColor")
    page.context.close()
