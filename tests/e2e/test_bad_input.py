"""What callers get wrong, as they are told of it: in OpenAI's shape, by the field's name, at once."""

from __future__ import annotations

import gzip
import json

import httpx2
import pytest

CHAT = b'"model":"o3","messages":[{"role":"user","content":"Hi"}]'
PATHS = ("/v1/chat/completions", "/v1/embeddings", "/v1/estimate", "/v1/batches")
BODIES = {
    "empty": (b"", None, "is empty"),
    "cut short": (b'{"model":', "model", "ends too early"),
    "an array": (b"[1]", None, "it is an array"),
    "NaN": (b"{" + CHAT + b',"top_p":NaN}', "top_p", "NaN is not JSON"),
    "deep inside": (b"{" + CHAT + b',"a":[0,{"b":[-Infinity]}]}', "a[1].b[0]", "-Infinity"),
    "another encoding": (b"{" + CHAT + b',"user":"\xff"}', "user", "not valid UTF-8"),
    "half a surrogate": (b"{" + CHAT + b',"user":"\\ud800"}', "user", "surrogate"),
    "a key twice": (b"{" + CHAT + b',"model":"o3"}', "model", "Duplicated key"),
    "nested": (b'{"a":' + b"[" * 5000 + b"]" * 5000 + b"}", "a[0][0][0][0][0]...", "too deeply"),
    "compressed": (gzip.compress(b"{" + CHAT + b"}"), None, "is compressed"),
}


def told(answer: httpx2.Response) -> dict[str, str]:
    error = answer.json()["error"]
    assert {"message", "type", "param", "code"} == set(error)
    assert "application/json" == answer.headers["content-type"]
    return error


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("name", BODIES)
def test_a_body_that_cannot_be_read(relay, path, name) -> None:
    """Whatever it is sent to, it is refused the same way."""
    body, param, words = BODIES[name]
    with relay.http() as http:
        answer = http.post(path, content=body, headers={"content-type": "application/json"})
    assert 400 == answer.status_code
    error = told(answer)
    assert param == error["param"]
    assert words in error["message"]
    assert error["code"] in ("invalid_json", "duplicated_key")


@pytest.mark.parametrize("path", PATHS[:2])
@pytest.mark.parametrize("number", ["1e999", "9" * 5000])
def test_a_number_no_float_holds_is_named_by_the_simulator(relay, path, number) -> None:
    """It is JSON, so what it means is the upstream's to say."""
    body = b"{" + CHAT + f',"input":"x","top_p":{number}'.encode() + b"}"
    with relay.http() as http:
        answer = http.post(path, content=body, headers={"content-type": "application/json"})
    assert (400, "top_p") == (answer.status_code, told(answer)["param"])


def part(name: str, value: str, filename: str = "") -> str:
    named = f'; filename="{filename}"' if filename else ""
    return f'--BB\r\ncontent-disposition: form-data; name="{name}"{named}\r\n\r\n{value}\r\n'


PURPOSE, FILE = part("purpose", "batch"), part("file", "x", "a.jsonl")
FORMS = {
    "no boundary": ("multipart/form-data", "abc", "invalid_form"),
    "another boundary": ("multipart/form-data; boundary=BB", "abc", "invalid_form"),
    "two files": ("multipart/form-data; boundary=BB", PURPOSE + FILE + FILE, "invalid_form"),
    "many fields": ("multipart/form-data; boundary=BB", PURPOSE * 20 + FILE, "invalid_form"),
    "no file": ("multipart/form-data; boundary=BB", PURPOSE, "missing_file"),
    "no form": ("application/json", "{}", "invalid_form"),
}


@pytest.mark.parametrize("name", FORMS)
def test_a_form_that_cannot_be_read(relay, name) -> None:
    """It is told as every other error."""
    kind, content, code = FORMS[name]
    body = content + ("--BB--\r\n" if "--BB" in content else "")
    with relay.http() as http:
        answer = http.post("/v1/files", content=body.encode(), headers={"content-type": kind})
    assert (400, code) == (answer.status_code, told(answer)["code"])
    assert "file" in told(answer)["message"]


@pytest.mark.parametrize("path", ["/v1/files", "/v1/batches"])
def test_a_list_that_goes_on_after_nothing(relay, path) -> None:
    """The parameter is named, not the object's own field."""
    with relay.http() as http:
        answer = http.get(path, params={"after": "nope"})
    assert (404, "after") == (answer.status_code, told(answer)["param"])


@pytest.mark.parametrize("around", ['"{}"', "'{}'", "<{}>", "Bearer {}"])
def test_a_key_with_something_around_it(relay, around) -> None:
    """Quotes of a settings file, brackets of an example: the hint says so, not that it is unknown."""
    headers = {"authorization": f"Bearer {around.format(relay.key)}"}
    answer = httpx2.get(f"{relay.url}/v1/models", headers=headers, trust_env=False)
    assert (401, "invalid_api_key") == (answer.status_code, told(answer)["code"])
    assert "something stands around it" in told(answer)["message"]
    assert relay.key not in answer.text


def test_a_large_body_with_a_wrong_key(relay) -> None:
    """It is the key that is wrong, not the body."""
    body = json.dumps({"model": "o3", "messages": [{"role": "user", "content": "x" * 100_000}]})
    url = f"{relay.url}/v1/chat/completions"
    headers = {"authorization": "Bearer mk-wrong"}
    answer = httpx2.post(url, content=body, headers=headers, trust_env=False)
    assert (413, "request_too_large") == (answer.status_code, told(answer)["code"])
    assert "without a valid key" in told(answer)["message"]
    with relay.http() as http:
        answer = http.post("/v1/chat/completions", content=b"x" * (33 << 20))
    assert 413 == answer.status_code
    assert "key" not in told(answer)["message"]


def test_control_characters_are_not_echoed(relay) -> None:
    """Whoever reads the message in a terminal or a log reads one line."""
    with relay.http() as http:
        body = {"model": "a\r\nx: \x1b[31m", "messages": [{"role": "user", "content": "Hi"}]}
        answers = [http.post(PATHS[0], json=body), http.get("/v1/models/a%0d%0ax%1b")]
    for answer in answers:
        assert 404 == answer.status_code
        assert told(answer)["message"].isprintable()
