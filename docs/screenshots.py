"""Make the pictures of the documentation: `python docs/screenshots.py` (needs Chromium).

Starts a relay on a planted history (`tests/planted.py`) and takes every picture anew.
"""

from __future__ import annotations

import asyncio
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import httpx2
from playwright.sync_api import sync_playwright

sys.path.insert(0, str(Path(__file__).parents[1]))
from tests.planted import CONFIG, plant

IMAGES = Path(__file__).parent / "images"
DESIGN = Path(__file__).parent / "design"
PAGES = {
    "overview": "?window=30d",
    "calls": "/calls?window=7d",
    "failures": "/calls?view=failures&window=7d",
    "call": "/calls/{call}",
    "models": "/models",
    "deployment": "/models?of=azure-o3&heat=first_token&hours=7d#speed",
    "keys": "/keys",
    "roi": "/roi",
}
DARK = ("overview",)


def main() -> None:
    IMAGES.mkdir(exist_ok=True)
    chromium = shutil.which("chromium") or shutil.which("chromium-browser")
    if chromium is None:
        sys.exit("Chromium is not installed: apt install chromium")
    with tempfile.TemporaryDirectory() as folder:
        data = Path(folder) / "data"
        config = Path(folder) / "merino.toml"
        config.write_text(CONFIG)
        planted = asyncio.run(plant(data))
        command = [sys.executable, "-m", "merino", "serve", "--port", "0"]
        command += ["--data", str(data), "--config", str(config)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as relay:
            assert relay.stdout is not None
            said = ""
            while "Listening on" not in said:
                said += relay.stdout.readline()
            url = re.search(r"Listening on (\S+)", said)[1]
            try:
                pictures(chromium, url, planted.admin_key, planted.call_with_content)
                bench(chromium, url, new_key(url, planted.admin_key), Path(folder))
            finally:
                relay.terminate()


def new_key(url: str, admin: str) -> str:
    headers = {"authorization": f"Bearer {admin}"}
    with httpx2.Client(base_url=url, headers=headers, trust_env=False, timeout=30) as http:
        body = {"account": "default", "name": "bench"}
        return http.post("/admin/v1/keys", json=body).json()["key"]


def pictures(chromium: str, url: str, admin: str, call: str) -> None:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        for scheme in ("light", "dark"):
            context = browser.new_context(
                viewport={"width": 1280, "height": 800}, color_scheme=scheme, timezone_id="UTC"
            )
            context.request.post(f"{url}/dashboard/sign-in", form={"key": admin})
            page = context.new_page()
            for name, path in PAGES.items():
                if scheme == "dark" and name not in DARK:
                    continue
                page.goto(f"{url}/dashboard{path.format(call=call)}")
                page.wait_for_timeout(400)
                file = IMAGES / f"{name}{'-dark' if scheme == 'dark' else ''}.png"
                page.screenshot(path=str(file))
            if scheme == "light":
                page.goto(f"{url}/dashboard/design")
                page.wait_for_timeout(400)
                page.screenshot(path=str(DESIGN / "components.png"), full_page=True)
                page.goto(f"{url}/dashboard/playground?alias=o3")
                page.get_by_label("Message").fill("Why do sheep follow each other?")
                page.get_by_role("button", name="Send").click()
                page.locator("#figures a").wait_for()
                page.screenshot(path=str(IMAGES / "playground.png"))
            context.close()
        browser.close()


def bench(chromium: str, url: str, key: str, folder: Path) -> None:
    out = folder / "run"
    command = [sys.executable, "-m", "merino", "bench", "throughput", "--rate", "30"]
    command += ["--target", f"relay={url}/v1,o4-mini,KEY", "--duration", "8", "--quiet"]
    command += ["--max-output-tokens", "800"]
    subprocess.run([*command, "--out", str(out)], env={"KEY": key}, check=True)
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
