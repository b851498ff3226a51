"""The dashboard in a real browser: from the first start to a paid call, and every page's looks."""

from __future__ import annotations

import base64
import re
import shutil
from collections.abc import Iterator

import pytest
from tests.conftest import RelayProcess
from tests.fake_stripe import SECRET_KEY, WEBHOOK_SECRET, FakeStripe, deliver

sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine")

PIXEL = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
)


@pytest.fixture(scope="module")
def stripe() -> Iterator[FakeStripe]:
    with FakeStripe() as fake:
        yield fake


@pytest.fixture(scope="module")
def relay(tmp_path_factory: pytest.TempPathFactory, stripe) -> Iterator[RelayProcess]:
    config = f"""
    [payments.stripe]
    secret_key = "env:STRIPE"
    webhook_secret = "env:STRIPE_HOOK"
    success_url = "http://127.0.0.1/ok"
    cancel_url = "http://127.0.0.1/no"
    api_base = "{stripe.url}"
    [status]
    public = true
    """
    env = {"STRIPE": SECRET_KEY, "STRIPE_HOOK": WEBHOOK_SECRET}
    process = RelayProcess(tmp_path_factory.mktemp("relay") / "data", config, env=env).start()
    yield process
    assert 0 == process.stop()


@pytest.fixture(scope="module")
def chromium() -> Iterator[object]:
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


class Problems(list[str]):
    """What the browser complained of: errors of scripts, broken policies, lost files."""

    def watch(self, page) -> None:
        page.on("pageerror", lambda error: self.append(f"{page.url}: {error}"))
        page.on(
            "console",
            lambda said: (
                self.append(f"{page.url}: {said.text}")
                if said.type in ("error", "warning")
                else None
            ),
        )


def signed_in(relay, context, problems: Problems):
    page = context.new_page()
    problems.watch(page)
    page.goto(f"{relay.url}/dashboard")
    page.get_by_label("Key").fill(relay.admin_key)
    page.get_by_role("button", name="Sign in").click()
    page.wait_for_url("**/dashboard")
    return page


def test_from_the_first_start_to_a_paid_call(relay, stripe, chromium) -> None:
    """Open an account, issue a key, top up, chat with a picture, see the call live and the
    statement: all by clicking."""
    problems = Problems()
    context = chromium.new_context()
    page = signed_in(relay, context, problems)
    overview = context.new_page()
    problems.watch(overview)
    overview.goto(f"{relay.url}/dashboard?window=1h")
    overview.wait_for_selector(".is-live")

    page.get_by_role("link", name="Accounts").click()
    page.get_by_role("link", name="New account").click()
    page.get_by_label("Name").fill("browser client")
    page.get_by_role("button", name="Open account").click()
    page.wait_for_url(re.compile("/accounts/acct_"))
    account_url = page.url.partition("?")[0]
    page.get_by_role("link", name="Top up").click()
    page.locator("#topup").get_by_label("Amount").fill("20")
    page.get_by_role("button", name="Top up").click()
    page.get_by_role("link", name=re.compile("Pay at")).wait_for()
    (session,) = stripe.sessions
    assert 200 == deliver(relay.url, stripe.pay(session)).status_code
    page.goto(account_url)
    assert "$20.00" == page.locator(".tile b").first.inner_text()

    page.get_by_role("link", name="Keys", exact=True).click()
    page.get_by_role("link", name="New key").click()
    page.get_by_label("Name").fill("browser key")
    page.locator("#new-key").get_by_label("Account").select_option("browser client")
    page.get_by_role("button", name="Create key").click()
    assert page.locator("#secret").inner_text().startswith("mk-")

    page.get_by_role("link", name="Playground").click()
    page.locator("[name=key]").select_option("browser key")
    page.locator("[name=model]").select_option("o3")
    page.get_by_label("Reasoning effort").select_option("low")
    page.get_by_label("Picture").set_input_files(
        {"name": "p.png", "mimeType": "image/png", "buffer": PIXEL}
    )
    page.get_by_label("Message").fill("What is on the picture?")
    page.get_by_role("button", name="Send").click()
    page.locator("#figures a").wait_for()
    assert "simulated answer from o3" in page.locator(".said.assistant").inner_text()
    figures = page.locator("#figures").inner_text()
    assert all(text in figures for text in ("output tokens", "cost $0.", "first token after"))
    page.get_by_role("button", name="Python").click()
    assert "from openai import OpenAI" in page.locator("#snippet").inner_text()
    call_id = page.locator("#figures a").get_attribute("href").rpartition("/")[2]

    overview.wait_for_selector(f'[data-newest] tr[data-call="{call_id}"]', timeout=8000)
    page.locator("#figures a").click()
    page.get_by_role("heading", name="Timeline").wait_for()
    assert "settle" in page.get_by_role("region", name="Ledger entries").inner_text()

    page.goto(f"{account_url}/statement")
    assert "Calls (1)" in page.inner_text("main")
    assert "stripe topup" in page.inner_text("main").lower()
    context.close()
    assert [] == problems


def test_the_keyboard_comes_to_the_content_first(relay, chromium) -> None:
    """The first stop leads over the menu."""
    context = chromium.new_context(viewport={"width": 360, "height": 800})
    page = signed_in(relay, context, Problems())
    page.goto(f"{relay.url}/dashboard/calls")
    page.keyboard.press("Tab")
    assert "To the content" == page.evaluate("document.activeElement.textContent")
    page.keyboard.press("Enter")
    assert "main" == page.evaluate("document.activeElement.id")
    context.close()
