"""A price that is shown is the price that calls are billed with."""

from __future__ import annotations

import html
import re
from decimal import Decimal

import httpx2
import pytest
from tests.fake_server import fake_server

MILLION = Decimal(10**6)
USAGE = {"prompt_tokens": 1000, "completion_tokens": 100, "total_tokens": 1100}
ANSWER = {
    "id": "c",
    "object": "chat.completion",
    "created": 1,
    "model": "any",
    "choices": [
        {
            "index": 0,
            "finish_reason": "stop",
            "message": {"role": "assistant", "content": "well " * 100},
        }
    ],
    "usage": USAGE,
}
# Where a price can come from: each way once. o3 is in the packaged book under openai.
DEPLOYMENTS = {
    "own": 'price = { input = "3.25", output = "11" }',
    "for-accounts": (
        'provider = "openai"\nupstream_model = "o3"\naccount_price = { input = "5", output = "20" }'
    ),
    "of-the-book": 'provider = "openai"\nupstream_model = "o3"',
    "of-another": 'price_model = "openai/o3"',
}
MARKUP = '[prices.markup]\nfactor = "1.1"\n'


@pytest.mark.parametrize("more", ["", MARKUP], ids=["as it is", "with a markup"])
def test_what_is_shown_is_what_is_billed(start_relay, more):
    """The Models page, `GET /v1/models`, `/v1/estimate` and the bill say the same of deployments
    that are priced by themselves, for accounts, by their provider and by a model they name."""
    with fake_server({"/v1/chat/completions": (200, ANSWER)}) as upstream:
        relay = start_relay(
            more
            + "".join(
                f'[[deployments]]\nname = "{name}"\nbase_url = "{upstream.address}/v1"\n'
                f'credential = "x"\n{price}\n'
                for name, price in DEPLOYMENTS.items()
            )
        )
        with relay.http() as http:
            shown = {
                each["id"]: each.get("price") for each in http.get("/v1/models").json()["data"]
            }
            page = models_page(relay)
            for name in DEPLOYMENTS:
                price = shown[name]
                rate_in = Decimal(price["per_million_input_tokens"])
                rate_out = Decimal(price["per_million_output_tokens"])
                body = {
                    "model": name,
                    "max_completion_tokens": 100,
                    "messages": [{"role": "user", "content": "Hi"}],
                }
                told = http.post("/v1/estimate", json=body).json()
                worst = told["input_tokens"] * rate_in + told["output_tokens_max"] * rate_out
                assert worst * 1000 == told["worst_case_nanos"], name
                answer = http.post("/v1/chat/completions", json=body)
                billed = Decimal(answer.headers["x-merino-cost"])
                assert (1000 * rate_in + 100 * rate_out) / MILLION == billed, name
                assert (rate_in, rate_out) == page[name], name


def models_page(relay) -> dict[str, tuple[Decimal, Decimal]]:
    """Of each model, what the page says it costs."""
    with httpx2.Client(base_url=relay.url, trust_env=False, follow_redirects=True) as http:
        http.post("/dashboard/sign-in", data={"key": relay.admin_key})
        text = http.get("/dashboard/models").text
    found = {}
    for row in re.findall(r"<tr>(.*?)</tr>", text, re.DOTALL):
        cells = [html.unescape(re.sub(r"<[^>]*>", "", cell)) for cell in re.split("<td", row)]
        prices = re.findall(r"([\d.]+) / \D*([\d.]+)", " ".join(cells))
        if prices:
            name = cells[1].partition(">")[2].strip()
            found[name] = (Decimal(prices[0][0]), Decimal(prices[0][1]))
    return found
