"""Run by the Python that has just got the wheel: does `merino serve` answer, with all its files?"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import urllib.parse
import urllib.request
from importlib import metadata
from pathlib import Path

PAGES = (
    "/livez", "/readyz", "/metrics", "/admin/v1/openapi.json", "/dashboard", "/dashboard/models",
    "/dashboard/playground", "/dashboard/roi",
)  # fmt: skip
PROGRAM = Path(sys.executable).with_name("merino")


def main() -> None:
    version = metadata.version("merino")
    told = subprocess.run([PROGRAM, "--version"], capture_output=True, text=True, check=True)
    assert told.stdout == f"merino {version}\n", told.stdout
    relay = subprocess.Popen(
        [PROGRAM, "serve", "--port", "0", "--data", "trial"], stdout=subprocess.PIPE, text=True
    )
    try:
        banner = _banner(relay)
        url = re.search(r"Listening on (\S+)", banner)
        key = re.search(r"^  key +(\S+)", banner, re.MULTILINE)
        admin_key = re.search(r"^  admin key +(\S+)", banner, re.MULTILINE)
        assert url is not None, banner
        assert key is not None, banner
        assert admin_key is not None, banner
        _call(url[1], key[1])
        browser = _signed_in(url[1], admin_key[1])
        for page in PAGES:
            _look(browser, url[1], page)
    finally:
        relay.terminate()
        code = relay.wait(timeout=60)
    assert code == 0, f"merino serve ended with {code}"
    verified = subprocess.run(
        [PROGRAM, "ledger", "verify", "--data", "trial"], capture_output=True, text=True, check=True
    )
    print(f"merino {version}, freshly installed, serves calls and pages; {verified.stdout.strip()}")


def _banner(relay: subprocess.Popen[str]) -> str:
    assert relay.stdout is not None
    lines: list[str] = []
    for line in relay.stdout:
        lines.append(line)
        if "print(answer" in line:  # its last line
            return "".join(lines)
    raise AssertionError("merino serve ended: " + "".join(lines))


def _call(url: str, key: str) -> None:
    body = {"model": "o3", "messages": [{"role": "user", "content": "Hello"}]}
    request = urllib.request.Request(
        f"{url}/v1/chat/completions",
        json.dumps(body).encode(),
        {"authorization": f"Bearer {key}", "content-type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=30) as answer:
        said = json.load(answer)
        assert said["choices"][0]["message"]["content"], said
        assert float(answer.headers["x-merino-cost"]) > 0, answer.headers


def _signed_in(url: str, admin_key: str) -> urllib.request.OpenerDirector:
    browser = urllib.request.build_opener(urllib.request.HTTPCookieProcessor())
    form = urllib.parse.urlencode({"key": admin_key}).encode()
    request = urllib.request.Request(f"{url}/dashboard/sign-in", form, {"origin": url})
    with browser.open(request, timeout=30) as page:
        assert b"Sign out" in page.read(), page.url
    return browser


def _look(browser: urllib.request.OpenerDirector, url: str, page: str) -> None:
    """A page, and every file of ours that it asks for."""
    with browser.open(url + page, timeout=30) as answer:
        assert answer.url == url + page, answer.url
        text = answer.read().decode()
    for path in re.findall(r'(?:href|src)="(/[^"]*static/[^"#]+)', text):
        with browser.open(url + path, timeout=30) as file:
            assert file.read(), path


if __name__ == "__main__":
    main()
