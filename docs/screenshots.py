"""Make the pictures of the documentation: `python docs/screenshots.py` (needs Chromium).

Starts a relay on a temporary folder, sends it some calls, and takes every picture anew.
"""

from __future__ import annotations

import random
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import httpx2
from playwright.sync_api import sync_playwright

IMAGES = Path(__file__).parent / "images"
CONFIG = """
[payments.invoice]
[[deployments]]
name = "openai-o3"
provider = "simulator"
upstream_model = "o3!ttft=60ms,tps=2000,jitter=0.5"
[[deployments]]
name = "azure-o3"
provider = "simulator"
upstream_model = "o3!status=503,fail_rate=0.2"
[[deployments]]
name = "openai-o4-mini"
provider = "simulator"
upstream_model = "o4-mini!ttft=20ms,tps=4000,jitter=0.5"
[aliases.o3]
deployments = ["openai-o3", "azure-o3"]
selection_policy = "weighted"
[aliases.o4-mini]
deployments = ["openai-o4-mini"]
"""


def main() -> None:
    IMAGES.mkdir(exist_ok=True)
    chromium = shutil.which("chromium") or shutil.which("chromium-browser")
    if chromium is None:
        sys.exit("Chromium is not installed: apt install chromium")
    with tempfile.TemporaryDirectory() as folder:
        data = Path(folder) / "data"
        config = Path(folder) / "merino.toml"
        config.write_text(CONFIG)
        command = [sys.executable, "-m", "merino", "serve", "--port", "0"]
        command += ["--data", str(data), "--config", str(config)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as relay:  # noqa: S603
            assert relay.stdout is not None
            said = ""
            while "print(answer" not in said:
                said += relay.stdout.readline()
            url = re.search(r"Listening on (\S+)", said)[1]
            key = re.search(r"\bmk-[\w-]+", said)[0]
            admin = re.search(r"\bmka-[\w-]+", said)[0]
            try:
                send(url, key)
                pictures(chromium, url, admin)
                bench(chromium, url, key, Path(folder))
            finally:
                relay.terminate()


def send(url: str, key: str) -> None:
    chance = random.Random(1)  # noqa: S311 - the same pictures each time
    headers = {"authorization": f"Bearer {key}"}
    with httpx2.Client(base_url=url, headers=headers, trust_env=False, timeout=30) as http:
        for number in range(60):
            body = {
                "model": chance.choice(["o3", "o3", "o4-mini"]),
                "messages": [{"role": "user", "content": f"Question {number}"}],
                "stream": number % 2 == 0,
            }
            http.post("/v1/chat/completions", json=body)


def pictures(chromium: str, url: str, admin: str) -> None:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        context = browser.new_context(viewport={"width": 1200, "height": 760})
        page = context.new_page()
        page.goto(f"{url}/dashboard")
        page.get_by_label("Key").fill(admin)
        page.get_by_role("button", name="Sign in").click()
        page.wait_for_url("**/dashboard")
        for name in ("overview", "models", "roi"):
            page.goto(f"{url}/dashboard/{'' if name == 'overview' else name}?window=1h")
            page.wait_for_timeout(300)
            page.screenshot(path=str(IMAGES / f"{name}.png"))
        page.goto(f"{url}/dashboard/calls")
        page.locator("tbody a").first.click()
        page.screenshot(path=str(IMAGES / "call.png"))
        page.goto(f"{url}/dashboard/playground?alias=o3")
        page.get_by_label("Message").fill("Why do sheep follow each other?")
        page.get_by_role("button", name="Send").click()
        page.locator("#figures a").wait_for()
        page.screenshot(path=str(IMAGES / "playground.png"))
        browser.close()


def bench(chromium: str, url: str, key: str, folder: Path) -> None:
    out = folder / "run"
    command = [sys.executable, "-m", "merino", "bench", "throughput", "--rate", "30"]
    command += ["--target", f"relay={url}/v1,o4-mini,KEY", "--duration", "8", "--quiet"]
    command += ["--max-output-tokens", "800"]
    subprocess.run([*command, "--out", str(out)], env={"KEY": key}, check=True)  # noqa: S603
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 1200, "height": 1000})
        page.goto(f"file://{out}/report.html")
        page.get_by_role("heading", name="Charts").scroll_into_view_if_needed()
        page.mouse.wheel(0, 700)
        page.wait_for_timeout(300)
        page.screenshot(path=str(IMAGES / "bench.png"))
        browser.close()


if __name__ == "__main__":
    main()
