"""Keys, judged before they are sent."""

from __future__ import annotations

import pytest

from merino.doctor.key import check_key, check_key_at_relay, check_key_at_stranger
from merino.doctor.target import Target

OURS = "mk-Zm9vYmFyYmF6cXV4MTIz"
RELAY = "https://relay.example/v1"
OPENAI = "https://api.openai.com/v1"


def judged(key: str, base_url: str = RELAY, *, is_local: bool = False) -> list[tuple[str, str]]:
    target = Target(
        base_url=base_url,
        base_url_from="--base-url",
        api_key=key,
        api_key_from="--api-key",
        is_local=is_local,
    )
    findings = check_key(target, base_url)
    assert all(key not in each.seen + each.mend for each in findings if len(key) > 12)
    return [(each.id, each.severity) for each in findings]


@pytest.mark.parametrize(
    ("key", "base_url"),
    [
        (OURS, RELAY),
        ("sk-plain0123456789", OPENAI),
        ("sk-proj-0123456789", OPENAI),
        ("sk-ant-0123456789", "https://api.anthropic.com/v1"),
        ("sk-or-v1-0123456789", "https://openrouter.ai/api/v1"),
        ("sk-0123456789abcdef", "https://api.deepseek.com/v1"),
        ("anything-else-at-all", RELAY),
    ],
)
def test_keys_that_may_belong_there_pass(key, base_url) -> None:
    """A key that its server may have issued is not complained about."""
    assert [] == judged(key, base_url)


@pytest.mark.parametrize(
    ("key", "base_url", "found"),
    [
        (OURS, OPENAI, "relay-key-at-provider"),
        (OURS, "https://openrouter.ai/api/v1", "relay-key-at-provider"),
        ("sk-proj-0123456789", RELAY, "provider-key-at-relay"),
        ("sk-abcT3BlbkFJdef", RELAY, "provider-key-at-relay"),
        ("sk-ant-0123456789", RELAY, "provider-key-at-relay"),
        ("sk-ant-0123456789", OPENAI, "other-providers-key"),
        ("sk-plain0123456789", "https://api.anthropic.com/v1", "other-providers-key"),
        ("mka-0123456789abcdef", RELAY, "admin-key"),
        (f"{OURS}\n", RELAY, "key-characters"),
        (f" {OURS}", RELAY, "key-characters"),
        (f'"{OURS}"', RELAY, "key-characters"),
        (f"\u201c{OURS}\u201d", RELAY, "key-characters"),
        (f"Bearer {OURS}", RELAY, "key-characters"),
        ("mk-\u00e9\u00e9\u00e9", RELAY, "key-characters"),
        ("YOUR_HOLYSHEEP_API_KEY", RELAY, "key-placeholder"),
        ("sk-...", OPENAI, "key-placeholder"),
        ("<your key>".replace(" ", "-"), RELAY, "key-placeholder"),
        ("", RELAY, "key-missing"),
    ],
)
def test_keys_that_cannot_work_are_told(key, base_url, found) -> None:
    """Whose key it is and how it was pasted can be told from its text."""
    assert [(found, "problem")] == judged(key, base_url)


def test_an_operator_without_a_key_is_only_reminded() -> None:
    """On the relay's own machine a missing key is no mistake."""
    assert [("key-missing", "warning")] == judged("", is_local=True)


@pytest.mark.parametrize("key", ["sk-plain0123456789", "sk-proj-0123456789", "gsk_0123456789", "x"])
def test_a_relay_gets_its_own_keys_only(key) -> None:
    """Once the server is known to be a relay, every foreign key is stopped."""
    assert ["provider-key-at-relay"] == [each.id for each in check_key_at_relay(key, "--api-key")]
    assert [] == check_key_at_relay(OURS, "--api-key")


def test_a_stranger_with_a_plain_sk_key_is_a_warning() -> None:
    """Other relays issue such keys, too, so that it can be right."""
    found = check_key_at_stranger("sk-plain0123456789", "--api-key", "relay.example")

    assert [("provider-key-at-relay", "warning")] == [(each.id, each.severity) for each in found]
    assert [] == check_key_at_stranger("sk-plain0123456789", "--api-key", "api.openai.com")
    assert [] == check_key_at_stranger("abcdef", "--api-key", "relay.example")
