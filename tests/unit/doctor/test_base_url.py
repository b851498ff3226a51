"""Base URLs as people write them."""

from __future__ import annotations

import pytest

from merino.doctor.base_url import check_base_url


@pytest.mark.parametrize(
    ("given", "found", "mended"),
    [
        ("http://127.0.0.1:8080/v1", ["base-url"], "http://127.0.0.1:8080/v1"),
        ("http://127.0.0.1:8080/v1/", ["base-url"], "http://127.0.0.1:8080/v1"),
        ("https://api.deepseek.com", ["base-url"], "https://api.deepseek.com"),
        ("https://x.example/v1beta/openai", ["base-url"], "https://x.example/v1beta/openai"),
        ("http://127.0.0.1:8080", ["v1-missing"], "http://127.0.0.1:8080/v1"),
        ("http://127.0.0.1:8080/", ["v1-missing"], "http://127.0.0.1:8080/v1"),
        ("http://relay/v1/v1", ["v1-doubled"], "http://relay/v1"),
        ("http://relay/team/v1/v1/v1/", ["v1-doubled"], "http://relay/team/v1"),
        ("http://relay/v1/chat/completions", ["endpoint-in-base-url"], "http://relay/v1"),
        ("http://relay/v1/models/", ["endpoint-in-base-url"], "http://relay/v1"),
        (
            "http://relay/chat/completions",
            ["endpoint-in-base-url", "v1-missing"],
            "http://relay/v1",
        ),
        (
            "http://relay/v1/v1/chat/completions",
            ["endpoint-in-base-url", "v1-doubled"],
            "http://relay/v1",
        ),
    ],
)
def test_what_was_meant_is_gone_on_with(given, found, mended) -> None:
    """A mistake is named, and mended so that the rest can be looked at."""
    examined = check_base_url(given, "--base-url")

    assert found == [each.id for each in examined.findings]
    assert mended == examined.base_url
    assert all(each.severity == "ok" for each in examined.findings) == (found == ["base-url"])


@pytest.mark.parametrize(
    "given",
    [
        "127.0.0.1:8080/v1",
        "relay.example/v1",
        "ftp://relay/v1",
        "http://",
        "http://relay:port/v1",
        "http://[::1/v1",
        "http://re lay/v1",
        '"http://relay/v1"',
        "http://relay/v1\n",
        "http://user:secret-password@relay/v1",
        "http://relay/v1?key=1",
        "http://relay/v1#top",
    ],
)
def test_what_is_no_address_ends_there(given) -> None:
    """Nothing is guessed of a URL that cannot be used, and its password is not repeated."""
    examined = check_base_url(given, "MERINO_BASE_URL")

    assert [("base-url", "problem")] == [(each.id, each.severity) for each in examined.findings]
    assert "" == examined.base_url
    assert "secret-password" not in examined.findings[0].seen
