"""Make the pictures of the portal: `python docs/portal_pictures.py` (needs Chromium).

Starts a relay with a portal on a planted history (`tests/planted.py`), with the stand-in mail and
payment servers of the tests, and takes every picture anew.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from playwright.sync_api import Page, sync_playwright

sys.path.insert(0, str(Path(__file__).parents[1]))
from tests.fake_stripe import SECRET_KEY, WEBHOOK_SECRET, FakeStripe
from tests.planted import MODELS, plant
from tests.unit.billing.smtp_server import MailServer

from merino.domain.clock import epoch_ms
from merino.domain.money import format_nanos
from merino.portal.catalogues import words_of
from merino.pricing.book import PriceBook

IMAGES = Path(__file__).parent / "images"
MADE_BY = {
    "o3": ("openai", "o3"),
    "o4-mini": ("openai", "o4-mini"),
    "gpt-4.1": ("openai", "gpt-4.1"),
    "claude-sonnet-4": ("anthropic", "claude-sonnet-4-5"),
    "deepseek-r1": ("deepseek", "deepseek-reasoner"),
    "embed-3": ("openai", "text-embedding-3-small"),
}
SHARE = 0.8
"""Of the list price, for the price list."""
PAGES = {"usage": "/usage?window=7d", "billing": "/billing", "prices": "/prices"}
SETTINGS = """
[portal]
enabled = true
name = "Sheep Cloud"
terms = "Be kind. Pay what you use."
start_credit = "2.00"
public_prices = true
[simulator]
enabled = false
[status]
public = true
[sla]
enabled = true
calls_min = 20
[[sla.credits]]
below = 0.995
share = 0.10
[notices.smtp]
host = "127.0.0.1"
port = {port}
security = "none"
sender = "Sheep Cloud <cloud@example.org>"
[payments]
seller = "Sheep Cloud GmbH\\nWeidenweg 4\\n80331 Munich"
[payments.stripe]
secret_key = "env:STRIPE"
webhook_secret = "env:STRIPE_HOOK"
success_url = "https://relay.example.org/portal/billing/paid"
cancel_url = "https://relay.example.org/portal/billing/unpaid"
api_base = "{stripe}"
"""


def models() -> str:
    """Cheaper than their makers, by the book of today."""
    book, now_ms = PriceBook.load(), epoch_ms()
    tables: list[str] = []
    for alias, names in MODELS.items():
        maker, model = MADE_BY[alias]
        price = book.find(maker, model, now_ms)
        assert price is not None, model
        rates = price.upstream
        ask = ", ".join(
            f'{name} = "{format_nanos(round(nanos * SHARE))}"'
            for name, nanos in (
                ("input", rates.input),
                ("cached", rates.cached),
                ("output", rates.output),
            )
        )
        tables += [
            f'[[deployments]]\nname = "{name}"\nprovider = "simulator"\n'
            f'upstream_model = "{model}!ttft=30ms,tps=2000"\naccount_price = {{ {ask} }}\n'
            for name in names
        ]
        tables.append(f'[aliases."{alias}"]\ndeployments = {json.dumps(list(names))}\n')
    return "\n".join(tables)


def main() -> None:
    IMAGES.mkdir(exist_ok=True)
    chromium = shutil.which("chromium") or shutil.which("chromium-browser")
    if chromium is None:
        sys.exit("Chromium is not installed: apt install chromium")
    with tempfile.TemporaryDirectory() as folder, FakeStripe() as stripe, MailServer() as mail:
        data, config = Path(folder) / "data", Path(folder) / "merino.toml"
        config.write_text(SETTINGS.format(port=mail.port, stripe=stripe.url) + models())
        planted = asyncio.run(plant(data))
        command = [sys.executable, "-m", "merino", "serve", "--port", "0"]
        command += ["--data", str(data), "--config", str(config)]
        env = {**os.environ, "STRIPE": SECRET_KEY, "STRIPE_HOOK": WEBHOOK_SECRET}
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=env) as relay:
            assert relay.stdout is not None
            said = ""
            while "Listening on" not in said:
                said += relay.stdout.readline()
            found = re.search(r"Listening on (\S+)", said)
            assert found is not None
            try:
                pictures(chromium, found[1], mail, data, planted.admin_key)
            finally:
                relay.terminate()


def pictures(chromium: str, url: str, mail: MailServer, data: Path, admin: str) -> None:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])

        def opened(width: int = 1280, height: int = 800, language: str = "en", **more: Any) -> Page:
            size: Any = {"width": width, "height": height}
            context = browser.new_context(viewport=size, locale=language, timezone_id="UTC", **more)
            return context.new_page()

        def take(page: Page, name: str) -> None:
            page.wait_for_timeout(400)
            page.screenshot(path=str(IMAGES / f"{name}.png"))

        page = opened()
        sign_up(page, url, mail, "ada@example.org", "en")
        page.get_by_role("button", name="Make a key").click()
        take(page, "portal-start")

        phone = opened(390, 844, "de", color_scheme="dark")
        sign_up(phone, url, mail, "ida@example.org", "de")
        take(phone, "portal-phone")

        invite = [sys.executable, "-m", "merino", "invitations", "create", "--data", str(data)]
        subprocess.run(
            [*invite, "--account", "acme", "--email", "eve@example.org"],
            check=True,
            stdout=subprocess.DEVNULL,
        )
        customer = opened()
        sign_up(customer, url, mail, "eve@example.org", "en")
        for name, path in PAGES.items():
            customer.goto(f"{url}/portal{path}")
            take(customer, f"portal-{name}")

        operator = opened()
        operator.context.request.post(f"{url}/dashboard/sign-in", form={"key": admin})
        for name in ("people", "service-levels"):
            operator.goto(f"{url}/dashboard/{name}")
            take(operator, name)
        operator.goto(f"{url}/status")
        take(operator, "status")
        browser.close()


def sign_up(page: Page, url: str, mail: MailServer, email: str, language: str) -> None:
    _ = words_of(language)
    page.goto(f"{url}/portal")
    page.get_by_label(_("E-mail address")).fill(email)
    page.get_by_role("button", name=_("Send me a code")).click()
    page.get_by_label(_("Code")).fill(code_to(page, mail, email))
    page.get_by_role("button", name=_("Go on")).click()
    page.get_by_label(_("I accept the terms.")).check()
    page.get_by_role("button", name=_("Open my account")).click()


def code_to(page: Page, mail: MailServer, email: str) -> str:
    for _ in range(200):
        for letter in reversed(mail.letters):
            found = re.search(r"^ {4}(\d{4} \d{4})\s*$", letter.get_content(), re.MULTILINE)
            if letter["To"] == email and found is not None:
                return found[1]
        page.wait_for_timeout(50)
    raise AssertionError(f"no letter came to {email}")


if __name__ == "__main__":
    main()
