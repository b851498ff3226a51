"""What letters to customers say."""

from __future__ import annotations

from typing import NamedTuple

from merino.portal.catalogues import Words


class Text(NamedTuple):
    subject: str
    text: str


def sign_in_letter(words: Words, portal: str, code: str, link: str | None) -> Text:
    """The code in two groups, as it is read; the link only where the relay knows its address."""
    _ = words
    shown = f"{code[:4]} {code[4:]}"
    lines = [
        _("Your code for {portal} is:", portal=portal),
        "",
        f"    {shown}",
        "",
        _("Type it into the page where you asked for it. It is good for ten minutes, once."),
    ]
    if link is not None:
        lines += ["", _("Or open this link:"), "", f"    {link}"]
    lines += [
        "",
        _("If you did not ask for it, do nothing: nobody gets in without it. Tell it to nobody."),
    ]
    return Text(
        _("{code} is your code for {portal}", code=shown, portal=portal), "\n".join(lines) + "\n"
    )


def closed_letter(words: Words, portal: str) -> Text:
    """To an address that nobody can come in with: the page says the same to everybody, and only
    who reads this mailbox learns more."""
    _ = words
    return Text(
        _("Signing in to {portal}", portal=portal),
        _(
            "Somebody asked to sign in to {portal} with this address. It has no account there, and "
            "cannot open one: ask whoever runs {portal} for an invitation, or use another address.",
            portal=portal,
        )
        + "\n\n"
        + _("If it was not you, do nothing.")
        + "\n",
    )


def invitation_letter(
    words: Words, portal: str, account: str, role: str, link: str | None, code: str
) -> Text:
    _ = words
    lines = [
        _(
            "You are invited to the account {account} at {portal}, as {role}.",
            account=account,
            portal=portal,
            role=role,
        ),
        "",
    ]
    if link is not None:
        lines += [_("Open this link to accept:"), "", f"    {link}"]
    else:
        lines += [_("Open the portal, choose Invitation and type this code:"), "", f"    {code}"]
    lines += ["", _("It is good for one person, once, for two weeks.")]
    return Text(
        _("Invitation to {account} at {portal}", account=account, portal=portal),
        "\n".join(lines) + "\n",
    )


def approved_letter(words: Words, portal: str, link: str | None) -> Text:
    _ = words
    lines = [_("Your account at {portal} is open.", portal=portal)]
    if link is not None:
        lines += ["", f"    {link}"]
    return Text(_("Welcome to {portal}", portal=portal), "\n".join(lines) + "\n")
