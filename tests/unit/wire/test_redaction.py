"""No secret of an upstream's leaves in what it says, however it is written there."""

from __future__ import annotations

import base64
import html
import json
from urllib.parse import quote, quote_plus

import pytest
from hypothesis import given
from hypothesis import strategies as st

from merino.domain.deployment import Deployment
from merino.wire.redaction import Secrets, secrets_of

secrets = st.text(
    st.characters(min_codepoint=33, max_codepoint=126, exclude_characters="\\"),
    min_size=12,
    max_size=60,
).filter(
    lambda text: len(set(text)) > 6 and text[:6].lower() not in "[redacted]" and "%" not in text
)
around = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="%"), max_size=20)


def basic(secret: str) -> str:
    return base64.b64encode(f"someone:{secret}".encode()).decode()


FORMS = {
    "plain": str,
    "bearer": lambda secret: f"Bearer {secret}",
    "small": str.lower,
    "in a URL": lambda secret: quote(secret, safe=""),
    "in a form": quote_plus,
    "twice in a URL": lambda secret: quote(quote(secret, safe=""), safe=""),
    "JSON": lambda secret: json.dumps(secret)[1:-1],
    "JSON in JSON": lambda secret: json.dumps(json.dumps(secret))[1:-1],
    "HTML": html.escape,
    "base64": lambda secret: base64.b64encode(secret.encode()).decode(),
    "basic": basic,
    "base64 for URLs": lambda secret: base64.urlsafe_b64encode(secret.encode()).decode(),
}


def deployment(secret: str, place: str) -> Deployment:
    plain = Deployment("a", "openai", "m", "https://up.example/v1")
    match place:
        case "credential":
            return Deployment("a", "openai", "m", "https://up.example/v1", credential=secret)
        case "header":
            return Deployment("a", "openai", "m", plain.base_url, headers=(("api-key", secret),))
        case "bearer header":
            headers = (("Authorization", f"Bearer {secret}"),)
            return Deployment("a", "openai", "m", plain.base_url, headers=headers)
        case "basic header":
            headers = (("Authorization", f"Basic {basic(secret)}"),)
            return Deployment("a", "openai", "m", plain.base_url, headers=headers)
        case "query":
            url = f"https://up.example/v1?key={quote(secret, safe='')}&api-version=2024-06-01"
            return Deployment("a", "openai", "m", url)
        case _:
            url = f"https://someone:{quote(secret, safe='')}@up.example/v1"
            return Deployment("a", "openai", "m", url)


PLACES = ["credential", "header", "bearer header", "basic header", "query", "URL's password"]


@given(secrets, st.sampled_from(PLACES), st.sampled_from(sorted(FORMS)), around, around)
def test_no_secret_is_left_in_any_form(secret, place, form, before, after) -> None:
    """Whatever it is a secret of and however it is written, it is gone, and the rest is there."""
    written = FORMS[form](secret)
    found = secrets_of([deployment(secret, place)])
    cleaned = found.redact(f"{before} {written} {after}")
    for each in (secret, secret.lower(), written):
        assert each not in cleaned
    assert base64.b64encode(secret.encode()).decode().rstrip("=")[:-1] not in cleaned
    assert "[redacted]" in cleaned


@given(secrets, st.integers(6, 40))
def test_a_message_that_was_cut_inside_a_secret_does_not_end_in_its_beginning(
    secret, length
) -> None:
    """Messages have a greatest length, and half a secret is one."""
    beginning = secret[: min(length, len(secret) - 1)]
    assert beginning not in Secrets([secret]).redact(f"refused: {beginning}")


@given(secrets, st.text(st.characters(exclude_categories=["Cs"]), max_size=200))
def test_what_holds_no_secret_stays_as_it_is(secret, text) -> None:
    """Also bytes that are no text at all."""
    known = Secrets([secret])
    if not known.are_in(text):
        data = b"\xff\x00" + text.encode()
        assert data == known.redact_bytes(data)


@pytest.mark.parametrize(
    "name", ["anthropic-version", "Content-Type", "api-version", "User-Agent", "X-Title"]
)
def test_public_headers_are_no_secrets(name) -> None:
    """A version in a vendor's message stays readable."""
    public = Deployment("a", "openai", "m", "https://a/v1", headers=((name, "2023-06-01"),))
    text = "use 2023-06-01 or later"
    assert text == secrets_of([public]).redact(text)


def test_many_deployments_are_searched_in_little_time() -> None:
    """A hundred deployments' secrets in the longest message: all found."""
    many = [
        Deployment(f"d{number}", "openai", "m", credential=f"secret-of-{number:04d}-abcdef")
        for number in range(100)
    ]
    text = "x" * 4000 + many[77].credential
    assert "secret-of-0077" not in secrets_of(many).redact(text)


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@given(secret=secrets)
def test_what_stands_around_an_events_data_holds_no_secret(end, secret) -> None:
    """Comments, names and ids of events are told as errors are; their data is content."""
    known = secrets_of([Deployment("a", "openai", "m", credential=secret)])
    lines = [f": debug {secret}", f"event: {secret}", f"id: {secret}", f"data: {secret}", "", ""]
    told = [line if line.startswith("data") else known.redact(line) for line in lines]
    assert end.join(told).encode() == known.redact_lines(end.join(lines).encode())
    assert 1 == known.redact_lines(end.join(lines).encode()).count(secret.encode())
