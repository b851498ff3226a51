"""Questions of operators, asked of a folder with a history: each is answered in a click or two."""

from __future__ import annotations

import asyncio
import html
import re
from collections.abc import Iterator
from urllib.parse import parse_qs, urlsplit

import pytest
from tests.in_process import Browser, InProcess, in_process
from tests.planted import CONFIG, NOISY, RISEN, SLOW, plant

CALLS = 4_000


@pytest.fixture(scope="module")
def planted(tmp_path_factory) -> Iterator[tuple[InProcess, Browser, object]]:
    folder = tmp_path_factory.mktemp("planted")
    made = asyncio.run(plant(folder / "data", CALLS))
    with in_process(folder, CONFIG) as relay:
        browser = relay.browser(made.admin_key)
        yield relay, browser, made
        browser.http.close()


@pytest.fixture(scope="module")
def operator(planted) -> Browser:
    return planted[1]


def text(page: str) -> str:
    return html.unescape(re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", page)))


def section(page: str, identity: str) -> str:
    """A panel, by its heading's id."""
    return page.partition(f'id="{identity}"')[2].partition("</section>")[0]


def links(part: str) -> list[str]:
    found = re.findall(r'<a [^>]*href="/dashboard([^"#]*)"', part)
    return [html.unescape(each) for each in found]


def test_why_did_the_bill_rise(operator) -> None:
    """No click: what changed most begins with the key and the model whose cost rose, with most of
    the change; one click leads to their calls of that time."""
    page = operator.get("?window=7d").text
    changed = section(page, "changed")
    first = text(changed.partition("<tbody>")[2].partition("</tr>")[0])
    assert RISEN in first
    assert "claude-sonnet-4" in first
    link = links(changed)[0]
    asked = parse_qs(urlsplit(link).query)
    assert (["7d"], ["claude-sonnet-4"]) == (asked["window"], asked["alias"])
    calls = operator.get(link).text
    names = set(re.findall(r'data-label="Key"><span class="name" title="([^"]*)"', calls))
    assert {RISEN} == names


def test_which_key_is_noisy(operator) -> None:
    """One click: failures grouped by code, key and model, the most frequent first, each with its
    message, an example and the calls behind it."""
    page = operator.get("/calls?view=failures&window=30d").text
    body = page.partition("<tbody>")[2].partition("</tbody>")[0]
    first = body.partition("</tr>")[0]
    assert NOISY in first
    assert "rate_limit_exceeded" in first
    assert "may send 60 calls a minute" in first
    count = int(re.search(r'value="(\d+)"', first)[1])
    behind = operator.get(links(first)[0]).text
    assert count >= 1
    assert "429" in text(behind)
    assert NOISY in text(behind)
    assert 200 == operator.get(links(first)[-1]).status_code


def test_which_deployment_is_slow(operator) -> None:
    """One click: split by deployment, the slow one's time to first token stands out."""
    page = operator.get("?window=24h&by=deployment&show=first_token").text
    table = section(page, "by-deployment")
    speeds = {}
    for line in table.partition("<tbody>")[2].split("</tr>"):
        name = re.search(r'title="([^"]+)"[^>]*>', line)
        values = re.findall(r'value="([\d.]+)" title="[^"]* ms"', line)
        if name and values:
            speeds[html.unescape(name[1])] = float(values[-1])
    assert SLOW == max(speeds, key=lambda name: speeds[name])


def test_every_split_and_measure_has_a_chart(operator) -> None:
    """With a table that adds up to the tile above it."""
    for by in ("alias", "key", "account", "deployment"):
        for show in ("spend", "calls", "tokens", "errors", "first_token"):
            page = operator.get(f"?window=30d&by={by}&show={show}")
            assert 200 == page.status_code
            assert '<figure class="plot"' in page.text, (by, show)
    page = operator.get("?window=30d&by=key&show=calls").text
    total = int(re.search(r'data-figure="calls" title="([\d,]+)"', page)[1].replace(",", ""))
    rows = page.partition('<figure class="plot"')[2].partition("</tbody>")[0].split("<tr>")[2:]
    added = [re.findall(r'<td class="n">([^<]*)</td>', row)[-2] for row in rows]
    assert total == sum(int(each.replace(",", "").replace("–", "0")) for each in added)


def test_filters_stay_on_the_way(operator) -> None:
    """From the overview to the calls and back: the time, the key and the model."""
    page = operator.get("?window=7d&key=acme-web&alias=o3").text
    assert re.search(r"Model\s*o3", text(page))
    onward = next(each for each in links(page) if each.startswith("/calls?") and "key=" in each)
    asked = parse_qs(urlsplit(onward).query)
    assert (["7d"], ["acme-web"], ["o3"]) == (asked["window"], asked["key"], asked["alias"])
    assert {"acme-web"} == set(
        re.findall(
            r'data-label="Key"><span class="name" title="([^"]*)"', operator.get(onward).text
        )
    )


def test_every_filter_of_calls(operator) -> None:
    """Shows those that match only, with a chip that takes it away again."""
    for query, label, fits in (
        ("status=5xx", "Status", lambda row: row["status"][0] == "5"),
        (
            "status=4xx&status=503",
            "Status",
            lambda row: row["status"][0] == "4" or row["status"] == "503",
        ),
        ("status=error", "Status", lambda row: row["status"] >= "400"),
        ("code=rate_limit_exceeded", "Error code", lambda row: row["status"] == "429"),
        ("key=acme-web&key=first", "Key", lambda row: row["key"] in ("acme-web", "first")),
        (f"deployment={SLOW}", "Deployment", lambda row: row["deployment"] == SLOW),
        ("cost=0.03", "Cost from", lambda row: float(row["cost"]) >= 0.03),
        ("took=20", "Took from", lambda row: float(row["took"]) >= 20_000),
    ):
        page = operator.get(f"/calls?{query}").text
        rows = rows_of(page)
        assert rows, query
        assert all(fits(row) for row in rows), query
        assert f"<span>{label}</span>" in page
        assert 'aria-label="Without' in page


def rows_of(page: str) -> list[dict[str, str]]:
    found = []
    for row in re.findall(r"<tr data-href[^>]*data-call.*?</tr>", page, re.DOTALL):
        values = dict(re.findall(r'data-label="([^"]+)">.*?(?:title|value)="([^"]*)"', row))
        found.append(
            {
                "status": re.search(r'class="badge[^>]*>(\d+)<', row)[1],
                "key": html.unescape(values.get("Key", "")),
                "deployment": values.get("Deployment", ""),
                "cost": values.get("Cost", "0"),
                "took": values.get("Took", "0"),
            }
        )
    return found


@pytest.mark.parametrize(
    "query",
    [
        "?window=year", "?by=colour", "?show=beauty", "?since=soon", "?until=2026-01-01",
        "?since=2026-01-02&until=2026-01-01", "?since=1990-01-01&until=2026-01-01",
        "/calls?status=6xx", "/calls?cost=much", "/calls?took=-1", "/calls?took=nan",
        "/calls?stream=maybe", "/calls?cursor=!",
    ],
)  # fmt: skip
def test_what_cannot_be_asked_is_told(operator, query) -> None:
    """In a sentence, not by a fault."""
    answer = operator.get(query)
    assert 400 == answer.status_code
    assert 'role="alert"' in answer.text


def test_a_call_is_a_conversation(planted) -> None:
    """Roles, reasoning, Markdown and tools of a stream, merged; its timeline; how to send it again."""
    _, operator, made = planted
    page = operator.get(f"/calls/{made.call_with_content}").text
    said = section(page, "conversation")
    for part in ("system", "user", "assistant", "Reasoning", "Compare both deployments."):
        assert part in text(said)
    assert "<strong>azure-o3</strong>" in said
    assert "<em>slow</em>" in said
    assert "latency_of" in said
    assert "backoff before the next attempt" in page
    assert "curl http" in text(page)
    assert "answer in short Markdown" in html.unescape(section(page, "conversation"))


def test_a_call_says_why_its_content_is_absent(planted, operator) -> None:
    """And how to keep it from now on."""
    page = operator.get("/calls?status=2xx").text
    call = re.findall(r'data-call="([^"]+)"', page)[3]
    shown = text(operator.get(f"/calls/{call}").text)
    assert "What was asked and answered is not kept." in shown
    assert "store_content = true" in shown


def test_a_wrong_field_keeps_the_form(operator) -> None:
    """What is wrong stands beside the field, everything else stays as it was typed."""
    answer = operator.post("/keys", name="typed", account="default", rpm="-1", spend_cap="7.50")
    assert 400 == answer.status_code
    assert '<dialog id="new-key" aria-labelledby="new-key-title" class="is-open">' in answer.text
    form = answer.text.partition('<dialog id="new-key"')[2].partition("</dialog>")[0]
    for kept in ('value="typed"', 'value="-1"', 'value="7.50"'):
        assert kept in form
    field = form.partition('name="rpm"')[2].partition("</div>")[0]
    assert 'aria-invalid="true"' in field
    assert "must be a whole number" in html.unescape(field)


def test_the_component_sheet_is_served_to_operators(planted) -> None:
    """To nobody else; it has every component."""
    relay, operator, _ = planted
    page = operator.get("/design").text
    for part in (
        "tile",
        "chip",
        "badge",
        "meter",
        "callout",
        "empty",
        "code",
        "dialog",
        "plot",
        "toasts",
    ):
        assert f'class="{part}' in page or f"<{part}" in page, part
    key = relay.cli("keys", "create", "--account", "acme", "--name", "owner of acme")
    owner = relay.browser(key["key"])
    assert 404 == owner.get("/design").status_code
    owner.http.close()


def test_a_key_shows_what_it_costs_and_where_it_fails(planted) -> None:
    """In the list: spend, change, errors and how full its cap is, the dearest first; on its page a
    chart, what failed with an example, and its calls."""
    _, operator, made = planted
    page = operator.get("/keys").text
    row = page.partition(f'/keys/{made.keys["acme-web"]}">')[2].partition("</tr>")[0]
    assert "of $400.00 a month" in text(row)
    assert re.search(r"\d+ of the cap|% of the cap", text(row) + row)
    noisy = operator.get(f"/keys/{made.keys[NOISY]}?show=errors").text
    assert '<figure class="plot"' in noisy
    failed = section(noisy, "failures")
    assert "rate_limit_exceeded" in failed
    assert 200 == operator.get(links(failed)[0]).status_code
    assert any("/calls?" in each and made.keys[NOISY] in each for each in links(noisy))


def test_a_key_is_found_by_its_whole_secret(planted) -> None:
    """As by its name or hint; the secret is never in an address, and an owner finds their own
    only."""
    relay, operator, _ = planted
    made = relay.cli("keys", "create", "--account", "acme", "--name", "found by secret")
    answer = operator.post("/keys/find", find=made["key"])
    assert made["id"] in str(answer.url)
    assert made["key"] not in str(answer.url)
    assert made["id"] in str(operator.post("/keys/find", find="found by").url)
    assert "q=acme" in str(operator.post("/keys/find", find="acme").url)
    assert 404 == operator.post("/keys/find", find="mk-none").status_code
    other = relay.cli("keys", "create", "--account", "globex", "--name", "a globex owner")
    owner = relay.browser(other["key"])
    assert 404 == owner.post("/keys/find", find=made["key"]).status_code
    owner.http.close()


def test_deployments_stand_by_their_trouble(operator) -> None:
    """The slow one first, with its percentiles beside those of a week ago; a click shows them over
    time."""
    page = operator.get("/models").text
    table = section(page, "deployments").partition("<tbody>")[2]
    names = re.findall(r'<a class="name" href="[^"]*" title="([^"]+)"', table)
    assert SLOW in names[:3]
    row = table.partition(f'title="{SLOW}"')[2].partition("</tr>")[0]
    assert "healthy" in row
    assert re.search(r'class="delta worse">[+×]', row)
    shown = operator.get(f"/models?of={SLOW}").text
    assert ["p50", "p95", "p99"] == re.findall(
        r'<th scope="col" class="n">(p\d\d)</th>', shown.partition('id="speed"')[2]
    )[:3]


def test_settings_are_searched(operator) -> None:
    """By name, value and meaning; or only those that somebody set."""
    found = operator.get("/settings?q=openai-o3").text
    assert "deployments[openai-o3].name" in found
    assert "server.port" not in found
    is_set = operator.get("/settings?set=1").text
    assert "status.public" in is_set
    assert ">default<" not in is_set
    assert "No setting like this" in operator.get("/settings?q=nothing-like-it").text


def test_the_audit_log_is_searched_and_exported(planted) -> None:
    """By who, what and of what, in the words that the page shows; nothing in it looks like code."""
    relay, operator, _ = planted
    relay.cli("keys", "create", "--account", "acme", "--name", "audited", "--alias", "o3", "--alias", "o4-mini")  # fmt: skip
    page = operator.get("/audit?q=create key").text
    assert "audited" in page
    assert "aliases=o3 + o4-mini" in page
    for code in ("None", "(&#39;", "[&#39;", "True"):
        assert code not in section(page, "main") or code not in page.partition("<table")[2]
    assert "audited" not in operator.get("/audit?q=revoke").text
    rows = operator.get("/audit.csv?q=audited").text.splitlines()
    assert "at,who,what,of,details" == rows[0]
    assert any("audited" in row for row in rows[1:])


def test_an_account_says_how_long_its_balance_lasts(planted) -> None:
    """At the pace of the last week; with the forecast's formula, a chart by key and its keys."""
    _, operator, made = planted
    page = operator.get(f"/accounts/{made.accounts['acme']}").text
    shown = text(page)
    assert re.search(r"Lasts (999\+|[\d.]+) days at the pace of the last 7 days", shown)
    assert "Forecast = spent so far" in shown
    assert '<figure class="plot"' in page
    assert f"/dashboard/keys/{made.keys[RISEN]}" in section(page, "keys")


def test_who_is_near_a_limit(planted) -> None:
    """One click: whom limits refused, most often first, with the limit's message; caps by how full
    they are; an owner sees their own."""
    relay, operator, _ = planted
    page = operator.get("/limits?window=30d").text
    refused = section(page, "refused")
    assert NOISY in refused.partition("</tr>")[2].partition("</tr>")[0]
    assert "may send 60 calls a minute" in refused
    caps = section(page, "caps")
    assert {RISEN, "acme-web"} <= set(re.findall(r'title="([^"]+)"', caps))
    shares = [float(each) for each in re.findall(r'data-label="Share">([\d.]+)', caps)]
    assert shares == sorted(shares, reverse=True)
    key = relay.cli("keys", "create", "--account", "globex", "--name", "a globex viewer")
    owner = relay.browser(key["key"])
    assert NOISY not in owner.get("/limits?window=30d").text
    owner.http.close()
