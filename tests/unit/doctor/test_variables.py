"""Which variable wins, and what is said of those that do not."""

from __future__ import annotations

import pytest

from merino.doctor.target import OPENAI_BASE_URL, TIMEOUT_S, Target, target_of
from merino.doctor.variables import check_variables


def target(environ: dict[str, str], *, local: str | None = None, **options: str) -> Target:
    return target_of(
        base_url=options.get("base_url"),
        api_key=options.get("api_key"),
        model=None,
        timeout_s=None,
        environ=environ,
        local_base_url=local,
    )


@pytest.mark.parametrize(
    ("environ", "expected"),
    [
        ({}, []),
        ({"OPENAI_BASE_URL": "http://a/v1", "OPENAI_API_KEY": "mk-a"}, []),
        ({"MERINO_BASE_URL": "http://a/v1", "OPENAI_BASE_URL": "http://a/v1/"}, []),
        (
            {"MERINO_BASE_URL": "http://a/v1", "OPENAI_BASE_URL": "http://b/v1"},
            [("base-url-override", "warning")],
        ),
        (
            {"MERINO_API_KEY": "mk-a", "OPENAI_API_KEY": "mk-b"},
            [("key-override", "warning")],
        ),
        (
            {"MERINO_BASE_URL": "http://a/v1", "OPENAI_API_KEY": "sk-a"},
            [("mixed-variables", "warning")],
        ),
        (
            {"OPENAI_BASE_URL": "http://a/v1", "MERINO_API_KEY": "mk-a"},
            [("mixed-variables", "warning")],
        ),
        ({"OPENAI_API_BASE": "http://a/v1"}, [("legacy-variable", "problem")]),
        (
            {"OPENAI_API_BASE": "http://a/v1", "OPENAI_BASE_URL": "http://a/v1"},
            [("legacy-variable", "warning")],
        ),
    ],
)
def test_variables_that_contradict_each_other_are_told(environ, expected) -> None:
    """Two families of variables, read by different programs, should say the same."""
    found = check_variables(environ, target(environ))

    assert expected == [(each.id, each.severity) for each in found]


def test_a_providers_credential_is_no_second_key_on_the_relays_machine() -> None:
    """Beside a data folder, OPENAI_API_KEY is the relay's own and rightly another."""
    environ = {"MERINO_API_KEY": "mk-a", "OPENAI_API_KEY": "sk-b"}

    assert [] == check_variables(environ, target(environ, local="http://127.0.0.1:8080/v1"))


def test_options_win_then_merinos_variables_then_openais() -> None:
    """The target is the one a program with Merino's client would have."""
    both = {"MERINO_BASE_URL": "http://m/v1", "OPENAI_BASE_URL": "http://o/v1"}
    local = "http://127.0.0.1:8080/v1"

    assert "http://x/v1" == target(both, base_url="http://x/v1").base_url
    assert "http://m/v1" == target(both, local=local).base_url
    assert "http://o/v1" == target({"OPENAI_BASE_URL": "http://o/v1"}, local=local).base_url
    assert local == target({}, local=local).base_url
    assert OPENAI_BASE_URL == target({}).base_url


def test_the_relay_here_is_not_called_with_a_providers_credential() -> None:
    """OPENAI_API_KEY is a key for a server that was named, and a credential for the relay here."""
    environ = {"OPENAI_API_KEY": "sk-a"}

    assert "" == target(environ, local="http://127.0.0.1:8080/v1").api_key
    assert "sk-a" == target(environ).api_key
    assert TIMEOUT_S == target(environ).timeout_s
    assert "sk-a" not in repr(target(environ))
