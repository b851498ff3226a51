"""What account owners are told, and by which way."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from msgspec import Meta

from merino.settings.declaring import optional_section, setting


@dataclass(frozen=True, slots=True, kw_only=True)
class SmtpSettings:
    host: str = setting("", "The mail server that takes notices.", required=True)
    port: Annotated[int, Meta(ge=1, le=65_535)] = setting(587, "Its port.")
    security: Literal["starttls", "tls", "none"] = setting(
        "starttls", "How the connection is encrypted; `none` only where nobody can listen."
    )
    sender: str = setting(
        "", "Whom notices come from: `Merino <merino@example.org>`.", required=True
    )
    username: str = setting("", "Whom to log in as; left out: no login.")
    password: str = setting("", "Its password: `env:NAME` or `file:PATH`.", secret=True)
    to: tuple[str, ...] = setting(
        (), "Who gets every notice, besides the account's own `notice_email`."
    )
    ca_file: Path | None = setting(
        None, "PEM certificates to trust for this server instead of the system's."
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class NoticesSettings:
    webhook_url: str | None = setting(
        None,
        "Where notices of balances, caps, top-ups and refused credentials are sent by POST.",
    )
    webhook_secret: str = setting(
        "", "What they are signed with: `env:NAME` or `file:PATH`.", secret=True
    )
    smtp: SmtpSettings | None = optional_section(
        SmtpSettings, "Mail to account owners, beside the webhook or instead of it."
    )
