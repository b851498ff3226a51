"""The portal in a real browser: from an empty folder to a paid call by clicking, in each language,
and how its pages look."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator

import httpx2
import pytest
from tests.conftest import RelayProcess
from tests.fake_stripe import SECRET_KEY, WEBHOOK_SECRET, FakeStripe, deliver
from tests.unit.billing.smtp_server import MailServer

from merino.portal.catalogues import words_of

sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine")

PAGES = ("", "/usage", "/keys", "/billing", "/prices", "/team", "/me")
WIDTHS = (360, 1200, 2560)
NOTHING_CLIPPED = """() => {
  const found = [];
  if (document.documentElement.scrollWidth > innerWidth) found.push('the page is wider than its window');
  for (const each of document.querySelectorAll('h1, h2, label, button, .btn, .figure, th, p, .badge, .chip, dt')) {
    if (!each.offsetParent || each.closest('.sr, .name, pre, [hidden]')) continue;
    if (each.scrollWidth > each.clientWidth + 1 && getComputedStyle(each).overflow === 'hidden' && !each.closest('.tile'))
      found.push('clipped: ' + each.textContent.slice(0, 60));
    const lines = each.matches('.figure') ? each.getClientRects().length : 1;
    if (lines > 1) found.push('a number breaks: ' + each.textContent);
  }
  for (const table of document.querySelectorAll('table:has(thead)')) {
    const heads = [...table.querySelectorAll('thead th')], row = table.querySelector('tbody tr');
    if (!row || getComputedStyle(row).display === 'grid') continue;
    [...row.children].forEach((cell, at) => {
      if (heads[at] && Math.abs(cell.getBoundingClientRect().left - heads[at].getBoundingClientRect().left) > 1)
        found.push('columns out of line: ' + heads[at].textContent);
    });
  }
  return found;
}"""


@pytest.fixture(scope="module")
def stripe() -> Iterator[FakeStripe]:
    with FakeStripe() as fake:
        yield fake


@pytest.fixture(scope="module")
def mail() -> Iterator[MailServer]:
    with MailServer() as server:
        yield server


@pytest.fixture(scope="module")
def relay(tmp_path_factory, stripe, mail) -> Iterator[RelayProcess]:
    config = f"""
    [portal]
    enabled = true
    name = "Sheep Cloud"
    terms = "Be kind. Pay what you use."
    public_prices = true
    letters_per_network_hour = 1000
    sign_ups_per_network_day = 1000
    [status]
    public = true
    [sla]
    enabled = true
    [notices.smtp]
    host = "127.0.0.1"
    port = {mail.port}
    security = "none"
    sender = "Sheep Cloud <cloud@example.org>"
    [payments.stripe]
    secret_key = "env:STRIPE"
    webhook_secret = "env:STRIPE_HOOK"
    success_url = "http://127.0.0.1/portal/billing/paid"
    cancel_url = "http://127.0.0.1/portal/billing/unpaid"
    api_base = "{stripe.url}"
    """
    env = {"STRIPE": SECRET_KEY, "STRIPE_HOOK": WEBHOOK_SECRET}
    process = RelayProcess(tmp_path_factory.mktemp("relay") / "data", config, env=env).start()
    stripe.relay_url = process.url
    yield process
    assert 0 == process.stop()


@pytest.fixture(scope="module")
def chromium() -> Iterator[object]:
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


def code_to(mail: MailServer, page, email: str) -> str:
    return letter_to(mail, page, email, r"\d{4} \d{4}")


def letter_to(mail: MailServer, page, email: str, wanted: str) -> str:
    """What stands by itself in the newest letter to an address that has it."""
    for _ in range(200):
        for letter in reversed(mail.letters):
            found = re.search(rf"^ {{4}}({wanted})\s*$", letter.get_content(), re.MULTILINE)
            if letter["To"] == email and found:
                return found[1]
        page.wait_for_timeout(50)
    raise AssertionError(f"no such letter came to {email}")


def signed_up(relay, mail, context, email: str, language: str):
    """By clicking, as far as the start page."""
    _ = words_of(language)
    page = context.new_page()
    page.goto(f"{relay.url}/portal")
    page.get_by_label(_("E-mail address")).fill(email)
    page.get_by_role("button", name=_("Send me a code")).click()
    page.get_by_label(_("Code")).fill(code_to(mail, page, email))
    page.get_by_role("button", name=_("Go on")).click()
    page.get_by_label(_("I accept the terms.")).check()
    page.get_by_role("button", name=_("Open my account")).click()
    page.get_by_role("heading", name=_("Three steps to your first call")).wait_for()
    return page


@pytest.mark.parametrize("language", ["en", "de", "zh-CN"])
def test_from_an_empty_folder_to_a_paid_call(relay, mail, stripe, chromium, language) -> None:
    """Sign up by a code from the mail server, pay at the payment provider, make a key, run the curl
    line as it stands, and see the call appear: by clicking, in each language."""
    _ = words_of(language)
    complaints: list[str] = []
    context = chromium.new_context(locale=language)
    page = signed_up(relay, mail, context, f"ada-{language}@example.org", language)
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("console", lambda said: complaints.append(said.text) if said.type == "error" else None)

    page.get_by_role("link", name=_("Billing"), exact=True).click()
    page.get_by_label(_("Amount"), exact=True).fill("20")
    page.get_by_role("button", name=_("Go on to pay")).click()
    page.locator("a.primary").click()
    page.get_by_role("button", name="Pay").click()
    page.get_by_text(
        _("Thank you. Your payment is credited as soon as it is confirmed.")
    ).wait_for()
    assert "20.00" in page.locator(".tile b").first.inner_text()
    page.get_by_role("link", name=_("Invoice"), exact=True).click()
    assert "20.00" in page.locator("main").inner_text()

    page.get_by_role("link", name=_("Start"), exact=True).click()
    page.get_by_role("button", name=_("Make a key")).click()
    curl = page.locator("#curl").inner_text()
    url = re.search(r"curl (\S+)", curl)
    secret = re.search(r"Bearer (mk-\S+)\"", curl)
    body = re.search(r"-d '(.*)'", curl)
    assert None not in (url, secret, body)
    headers = {"authorization": f"Bearer {secret[1]}"}
    answer = httpx2.post(
        url[1], json=json.loads(body[1]), headers=headers, trust_env=False, timeout=30
    )
    assert 200 == answer.status_code
    page.get_by_text("Python", exact=True).click()
    pasted = page.locator("#python").inner_text()
    done = subprocess.run(
        [sys.executable, "-c", pasted],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (0, True) == (done.returncode, bool(done.stdout.strip())), done.stderr
    page.locator(".live-calls li").first.wait_for(timeout=15_000)
    assert "UTC" not in page.locator(".live-calls").inner_text()
    page.get_by_role("link", name=_("Usage"), exact=True).click()
    assert "200" in page.locator("table .badge").first.inner_text()
    context.close()
    assert [] == complaints


def test_pages_fit_and_are_accessible(relay, mail, chromium) -> None:
    """In light and dark, at three widths: nothing is clipped, columns line up, no number breaks,
    and axe finds nothing."""
    axe_module = pytest.importorskip("axe_playwright_python.sync_playwright")
    axe, found = axe_module.Axe(), []
    context = chromium.new_context(locale="en")
    page = signed_up(relay, mail, context, "looks@example.org", "en")
    page.get_by_role("button", name="Make a key").click()
    for scheme in ("light", "dark"):
        page.emulate_media(color_scheme=scheme)
        for width in WIDTHS:
            page.set_viewport_size({"width": width, "height": 900})
            for path in PAGES:
                page.goto(f"{relay.url}/portal{path}")
                where = f"{path or '/'} {scheme} {width}"
                found += [f"{where}: {each}" for each in page.evaluate(NOTHING_CLIPPED)]
                if width != 1200:
                    continue
                results = axe.run(page).response["violations"]
                found += [
                    f"{where}: {each['id']} {each['nodes'][0]['html'][:100]}" for each in results
                ]
    context.close()
    assert [] == found


@pytest.mark.parametrize("language", ["de", "zh-CN"])
def test_pages_fit_in_other_languages(relay, mail, chromium, language) -> None:
    """Longer words and other scripts: at three widths nothing is clipped, and no number breaks;
    before somebody is signed in, too."""
    context = chromium.new_context(locale=language)
    page = context.new_page()
    found = []
    for width in WIDTHS:
        page.set_viewport_size({"width": width, "height": 900})
        for path in ("/sign-in", "/invitation", "/price-list", "/nothing"):
            page.goto(f"{relay.url}/portal{path}")
            found += [f"{path} {width}: {each}" for each in page.evaluate(NOTHING_CLIPPED)]
    page = signed_up(relay, mail, context, f"long-{language}@example.org", language)
    page.locator("form[action$='/first-key'] button").click()
    for width in WIDTHS:
        page.set_viewport_size({"width": width, "height": 900})
        for path in PAGES:
            page.goto(f"{relay.url}/portal{path}")
            found += [f"{path} {width}: {each}" for each in page.evaluate(NOTHING_CLIPPED)]
    context.close()
    assert [] == found


def test_operators_pages_of_customers_fit(relay, mail, chromium) -> None:
    """People, invitations, service levels and the status page: nothing is clipped, columns line
    up, and axe finds nothing."""
    axe_module = pytest.importorskip("axe_playwright_python.sync_playwright")
    axe, found = axe_module.Axe(), []
    relay.cli("invitations", "create", "--email", "somebody.with.a.long.name@example.org")
    customer = chromium.new_context(locale="en")
    signed_up(relay, mail, customer, "seen@example.org", "en")
    customer.close()
    [person] = relay.cli("people", "list", "--email", "seen@example.org")["data"]
    context = chromium.new_context(locale="en")
    context.request.post(f"{relay.url}/dashboard/sign-in", form={"key": relay.admin_key})
    page = context.new_page()
    paths = ("people", "invitations", "service-levels", f"people/{person['id']}/delete")
    for scheme in ("light", "dark"):
        page.emulate_media(color_scheme=scheme)
        for width in WIDTHS:
            page.set_viewport_size({"width": width, "height": 900})
            for path in (*(f"/dashboard/{each}" for each in paths), "/status"):
                page.goto(f"{relay.url}{path}")
                where = f"{path} {scheme} {width}"
                found += [f"{where}: {each}" for each in page.evaluate(NOTHING_CLIPPED)]
                if width != 1200:
                    continue
                results = axe.run(page).response["violations"]
                found += [
                    f"{where}: {each['id']} {each['nodes'][0]['html'][:100]}" for each in results
                ]
    context.close()
    assert [] == found


def test_pages_work_without_scripts(relay, mail, chromium) -> None:
    """Signing up, making a key and choosing a language need no script."""
    context = chromium.new_context(locale="de", java_script_enabled=False)
    page = signed_up(relay, mail, context, "plain@example.org", "de")
    page.get_by_role("button", name="Schlüssel anlegen").click()
    assert page.locator("#secret").inner_text().startswith("mk-")
    page.get_by_label("Sprache").select_option("en")
    page.get_by_role("button", name="Ändern").click()
    page.get_by_role("heading", name="Three steps to your first call").wait_for()
    context.close()


def test_a_card_is_kept_and_tops_up_by_itself(relay, mail, stripe, chromium) -> None:
    """Pay once and keep the card, set the rule, and the next top-up comes by itself; the card is
    deleted by a button, at the provider, too."""
    context = chromium.new_context(locale="en")
    page = signed_up(relay, mail, context, "card@example.org", "en")
    page.get_by_role("link", name="Billing", exact=True).click()
    page.get_by_label("Amount", exact=True).fill("10")
    page.get_by_label("Keep the card for automatic top-ups").check()
    page.get_by_role("button", name="Go on to pay").click()
    page.locator("a.primary").click()
    page.get_by_role("button", name="Pay").click()
    page.get_by_text("card kept").wait_for()
    before = len(stripe.intents)
    page.get_by_label("When the balance is below", exact=True).fill("15")
    page.get_by_label("Top up by").fill("30")
    page.locator("form[action$='/billing/rule'] button").click()
    page.get_by_text("Saved.").wait_for()
    for _ in range(200):
        if len(stripe.intents) > before:
            break
        page.wait_for_timeout(100)
    [intent] = list(stripe.intents.values())[before:]
    assert 200 == deliver(relay.url, stripe.event("payment_intent.succeeded", intent)).status_code
    page.goto(f"{relay.url}/portal/billing")
    assert "40.00" in page.locator(".tile b").first.inner_text()
    page.get_by_text("automatic", exact=True).wait_for()
    kept = dict(stripe.cards)
    page.get_by_role("button", name="Delete the card").click()
    page.get_by_text("The card is deleted.").wait_for()
    assert len(stripe.cards) < len(kept)
    context.close()


@pytest.mark.parametrize("language", ["en", "de", "zh-CN"])
def test_a_team_is_invited_and_bounded_by_roles(relay, mail, chromium, language) -> None:
    """The owner invites by mail, the other types the code, joins as a viewer, and finds no button
    that a viewer may not press."""
    _ = words_of(language)
    context = chromium.new_context(locale=language)
    page = signed_up(relay, mail, context, f"owner-{language}@example.org", language)
    page.get_by_role("link", name=_("Team"), exact=True).click()
    email = f"viewer-{language}@example.org"
    page.get_by_label(_("E-mail address")).fill(email)
    page.locator("form.fields select[name=role]").select_option("viewer")
    page.get_by_role("button", name=_("Send the invitation")).click()
    page.get_by_text(_("The invitation is on its way.")).wait_for()
    other = chromium.new_context(locale=language)
    guest = other.new_page()
    guest.goto(f"{relay.url}/portal")
    guest.get_by_role("link", name=_("I have an invitation")).click()
    code = letter_to(mail, page, email, r"mi-[\w-]+")
    guest.get_by_label(_("Code of the invitation")).fill(code)
    guest.get_by_role("button", name=_("Go on")).click()
    guest.get_by_label(_("E-mail address")).fill(email)
    guest.get_by_role("button", name=_("Send me a code")).click()
    guest.get_by_label(_("Code")).fill(code_to(mail, guest, email))
    guest.get_by_role("button", name=_("Go on")).click()
    guest.get_by_label(_("I accept the terms.")).check()
    guest.get_by_role("button", name=_("Open my account")).click()
    guest.get_by_role("link", name=_("Keys"), exact=True).click()
    assert 0 == guest.get_by_role("button", name=_("Make a key")).count()
    guest.get_by_role("link", name=_("Billing"), exact=True).click()
    assert 0 == guest.get_by_role("button", name=_("Go on to pay")).count()
    page.reload()
    page.get_by_role("rowheader", name=email).wait_for()
    context.close()
    other.close()


@pytest.mark.parametrize("language", ["en", "de", "zh-CN"])
def test_ones_money_and_data_by_clicking(relay, mail, chromium, language, tmp_path) -> None:
    """A voucher is redeemed, a cap set, invoices made out to a company, a statement printed; the
    data is downloaded, and deleted for good."""
    _ = words_of(language)
    context = chromium.new_context(locale=language, accept_downloads=True)
    email = f"data-{language.lower()}@example.org"
    page = signed_up(relay, mail, context, email, language)
    [voucher] = relay.cli("vouchers", "create", "--value", "7")["data"]
    page.get_by_role("link", name=_("Billing"), exact=True).click()
    page.locator("input[name=voucher]").fill(voucher["code"])
    page.get_by_role("button", name=_("Credit it")).click()
    page.get_by_text(_("The voucher is credited.")).wait_for()
    assert "7.00" in page.locator(".tile b").first.inner_text()
    page.get_by_label(_("Spend cap")).fill("5")
    page.locator("form[action$='/billing/terms'] button").click()
    page.get_by_text(_("Saved.")).wait_for()
    page.locator(".tile small", has_text="5.00").wait_for()
    page.get_by_label(_("Name or company")).fill("Flock AG")
    page.get_by_label(_("Tax number")).fill("CHE-1")
    page.locator("form[action$='/billing/details'] button").click()
    page.get_by_text(_("Saved.")).wait_for()
    page.locator("a[href*='/billing/statement/']").first.click()
    assert "Flock AG" in page.locator("main").inner_text()
    assert page.get_by_role("button", name=_("Print or save as PDF")).is_visible()
    assert page.pdf(path=tmp_path / "statement.pdf").startswith(b"%PDF")

    page.get_by_role("link", name=_("My data"), exact=True).click()
    with page.expect_download() as download:
        page.get_by_role("link", name=_("Take my data along (JSON)")).click()
    told = json.loads(download.value.path().read_text(encoding="utf-8"))
    assert (email, "Flock AG") == (told["email"], told["accounts"][0]["invoices_to"]["name"])
    page.get_by_label(_("Type {who} to confirm", who=email)).fill(email)
    page.get_by_role("button", name=_("Delete my data")).click()
    page.get_by_role("button", name=_("Send me a code")).wait_for()
    assert [] == relay.cli("people", "list", "--email", email)["data"]
    context.close()
