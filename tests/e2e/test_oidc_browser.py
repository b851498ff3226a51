"""Signing in through a provider in a real browser: every redirect under the pages' own policy."""

from __future__ import annotations

import shutil

import pytest
from tests.fake_oidc import CLIENT_ID, CLIENT_SECRET, FakeOidc

sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
Axe = pytest.importorskip("axe_playwright_python.sync_playwright").Axe
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine")


def test_in_and_out_and_refused(start_relay) -> None:
    """In by one click, out here and at the provider, and a clear page for whom nobody knows; each
    fits a phone, axe-core finds no fault, and the browser complains of nothing."""
    with FakeOidc() as provider, sync_api.sync_playwright() as playwright:
        relay = start_relay(
            f"""
            [dashboard.oidc]
            name = "Example ID"
            issuer = "{provider.url}"
            client_id = "{CLIENT_ID}"
            client_secret = "env:OIDC_SECRET"
            operators = ["anna@example.org"]
            accounts.default.owners = ["otto@example.org"]
            accounts.second.viewers = ["otto@example.org"]
            """,
            env={"OIDC_SECRET": CLIENT_SECRET},
        )
        relay.cli("accounts", "create", "--name", "second")
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 360, "height": 800})
        problems: list[str] = []
        page.on("pageerror", lambda error: problems.append(str(error)))
        page.on(
            "console",
            lambda said: problems.append(said.text) if said.type in ("error", "warning") else None,
        )

        menu = page.get_by_role("button", name="Menu")  # folded on a phone

        def looks_good() -> None:
            assert page.evaluate("document.documentElement.scrollWidth") <= 360, page.url
            faults = Axe().run(page).response["violations"]
            assert [] == [(each["id"], each["nodes"][0]["html"]) for each in faults], page.url

        page.goto(f"{relay.url}/dashboard")
        looks_good()
        page.get_by_role("link", name="Sign in with Example ID").click()
        page.wait_for_url(f"{relay.url}/dashboard")
        page.goto(f"{relay.url}/dashboard/audit")
        assert "oidc anna@example.org" in page.inner_text("main")
        assert [] == problems
        menu.click()
        page.get_by_role("button", name="Sign out").click()
        page.wait_for_url(f"{relay.url}/dashboard/sign-in")
        assert "/end_session" in [path for _, path, _ in provider.requests]
        assert [] == problems
        provider.person["email"] = "otto@example.org"
        page.get_by_role("link", name="Sign in with Example ID").click()
        menu.click()
        page.get_by_label("Account", exact=True).select_option("second (viewer)")
        looks_good()
        page.get_by_role("button", name="Switch").click()
        page.locator("option[selected]", has_text="second (viewer)").wait_for(state="attached")
        assert [] == problems
        menu.click()
        page.get_by_role("button", name="Sign out").click()
        page.wait_for_url(f"{relay.url}/dashboard/sign-in")
        provider.person["email"] = "stranger@example.org"
        page.get_by_role("link", name="Sign in with Example ID").click()
        page.get_by_role("heading", name="No access").wait_for()
        assert "stranger@example.org" in page.inner_text("main")
        looks_good()
        problems = [each for each in problems if "403" not in each]
        assert [] == problems
        browser.close()
