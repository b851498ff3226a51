"""Nothing secret is said."""

from __future__ import annotations

from merino.doctor.finding import problem
from merino.doctor.secrets import Secrets, shown


def test_every_known_secret_is_cut() -> None:
    """Keys, credentials from variables and passwords in URLs, however they got into a text."""
    environ = {
        "OPENAI_API_KEY": "plain-credential-1",
        "STRIPE_SECRET": "whatever-secret-2",
        "HTTPS_PROXY": "http://me:proxy-password@proxy:1",
        "HOME": "/home/me",
    }
    secrets = Secrets(["'mk-0123456789abcdef' ", ""], environ)
    text = (
        "mk-0123456789abcdef plain-credential-1 whatever-secret-2 proxy-password "
        "http://you:other@host/v1 sk-proj-echoedByTheServer123 /home/me"
    )

    hidden = secrets.hide(text)

    assert (
        "mk-0123... plain-c... whateve... ... http://[hidden]@host/v1 sk-proj-echo... /home/me"
        == hidden
    )


def test_findings_are_gone_over_as_a_whole() -> None:
    """What was seen and how to mend it, both."""
    secrets = Secrets(["credential-of-upstream"], {})
    found = secrets.hide_in(problem("key", "credential-of-upstream", "use credential-of-upstream"))

    assert ("credent...", "use credent...") == (found.seen, found.mend)


def test_short_texts_do_not_show_half_of_themselves() -> None:
    """The beginning is shown only of what is long enough."""
    assert "..." == shown("secret")
    assert "mk-abcd..." == shown("mk-abcdefghijkl\n")
