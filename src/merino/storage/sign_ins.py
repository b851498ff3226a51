"""Letters with codes and links, and who is signed in to the portal; of every secret, its hash."""

from __future__ import annotations

import hmac
import secrets
from collections.abc import Callable

from merino.domain.person import Proof
from merino.sqlite.database import Database, Row
from merino.sqlite.readers import Readers
from merino.sqlite.writer import Writer

LETTER_S = 600
"""How long a code or link is good."""
TRIES_MAX = 5
IDLE_S = 7 * 86_400
LONGEST_S = 30 * 86_400
_SEEN_MS = 300_000
"""How exactly it is noted that somebody was here: pages are looked at more often than that."""
_FORGET_ROWS = 100

_TRY = """
UPDATE sign_in_letters SET tries = tries + 1
WHERE token_hash = ? AND used_at_ms IS NULL AND expires_at_ms > ? AND tries < ?
RETURNING code_hash, email, invitation_id
"""
_FOLLOW = """
UPDATE sign_in_letters SET used_at_ms = ?
WHERE link_hash = ? AND used_at_ms IS NULL AND expires_at_ms > ?
RETURNING email, invitation_id
"""
_SESSION = "email, subject, invitation_id, person_id, account_id, began_at_ms, seen_at_ms"


class SignInStore:
    """`portal.ports.SignIns`."""

    def __init__(
        self, writer: Writer, points: Readers, pepper: bytes, now_ms: Callable[[], int]
    ) -> None:
        self._writer = writer
        self._points = points
        self._pepper = pepper
        self._now_ms = now_ms

    async def add_letter(self, email: str, invitation_id: str | None) -> tuple[str, str, str]:
        """The browser's token, and the code and the link's token of a new letter."""
        token, link = secrets.token_urlsafe(32), secrets.token_urlsafe(32)
        code = f"{secrets.randbelow(10**8):08d}"
        now_ms = self._now_ms()
        row = (
            self._hash("token", token),
            self._code_hash(token, code),
            self._hash("link", link),
            email,
            invitation_id,
            now_ms + LETTER_S * 1000,
        )

        def write(database: Database) -> None:
            database.execute(
                "DELETE FROM sign_in_letters WHERE token_hash IN (SELECT token_hash"
                " FROM sign_in_letters WHERE expires_at_ms < ? ORDER BY expires_at_ms LIMIT ?)",
                (now_ms, _FORGET_ROWS),
            )
            database.execute(
                "INSERT INTO sign_in_letters (token_hash, code_hash, link_hash, email,"
                " invitation_id, expires_at_ms) VALUES (?, ?, ?, ?, ?, ?)",
                row,
            )

        await self._writer.write("the letter", write, lasts=False)
        return token, code, link

    async def try_code(self, token: str, code: str) -> tuple[str, str | None] | None:
        """The address, and the invitation it came with, if this is the code of this browser's
        letter. The letter is used up by that, or by too many tries."""
        token_hash, given = self._hash("token", token), self._code_hash(token, code)
        now_ms = self._now_ms()

        def write(database: Database) -> tuple[str, str | None] | None:
            row = database.one(_TRY, (token_hash, now_ms, TRIES_MAX))
            code_hash, email, invitation_id = row or (b"", "", None)
            if not hmac.compare_digest(code_hash, given):
                return None
            database.execute(
                "UPDATE sign_in_letters SET used_at_ms = ? WHERE token_hash = ?",
                (now_ms, token_hash),
            )
            return email, invitation_id

        return await self._writer.write("signing in", write)

    async def follow_link(self, link: str) -> tuple[str, str | None] | None:
        """As `try_code`, in any browser."""
        bindings = (self._now_ms(), self._hash("link", link), self._now_ms())
        row = await self._writer.write(
            "signing in", lambda database: database.one(_FOLLOW, bindings)
        )
        return None if row is None else (row[0], row[1])

    async def begin(self, proof: Proof, person_id: str | None, invitation_id: str | None) -> str:
        """The cookie's value of a new session."""
        token, now_ms = secrets.token_urlsafe(32), self._now_ms()
        row = (
            self._hash("session", token),
            proof.email,
            proof.subject,
            invitation_id,
            person_id,
            None,
            now_ms,
            now_ms,
        )

        def write(database: Database) -> None:
            database.execute(
                "DELETE FROM portal_sessions WHERE token_hash IN (SELECT token_hash"
                " FROM portal_sessions WHERE seen_at_ms < ? ORDER BY seen_at_ms LIMIT ?)",
                (now_ms - IDLE_S * 1000, _FORGET_ROWS),
            )
            database.execute(
                f"INSERT INTO portal_sessions (token_hash, {_SESSION})"
                " VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
                row,
            )

        await self._writer.write("signing in", write)
        return token

    async def find(self, token: str) -> tuple[Proof, str | None, str | None, str | None] | None:
        """Of a session that is good: what was proved, the invitation, the person, the account they
        look at."""
        token_hash, now_ms = self._hash("session", token), self._now_ms()

        def read(database: Database) -> Row | None:
            return database.one(
                f"SELECT {_SESSION} FROM portal_sessions WHERE token_hash = ?", (token_hash,)
            )

        row = await self._points.run(read)
        if row is None:
            return None
        email, subject, invitation_id, person_id, account_id, began_at_ms, seen_at_ms = row
        if now_ms - seen_at_ms > IDLE_S * 1000 or now_ms - began_at_ms > LONGEST_S * 1000:
            await self.end(token)
            return None
        if now_ms - seen_at_ms > _SEEN_MS:
            await self._writer.write(
                "the session",
                lambda database: database.change(
                    "UPDATE portal_sessions SET seen_at_ms = ? WHERE token_hash = ?",
                    (now_ms, token_hash),
                ),
                lasts=False,
            )
        return Proof(email, subject), invitation_id, person_id, account_id

    async def bind(self, token: str, person_id: str, account_id: str | None) -> None:
        """The session is this person's, and looks at this account."""
        row = (person_id, account_id, self._hash("session", token))
        await self._writer.write(
            "the session",
            lambda database: database.change(
                "UPDATE portal_sessions SET person_id = ?, account_id = ?, invitation_id = NULL"
                " WHERE token_hash = ?",
                row,
            ),
        )

    async def end(self, token: str) -> None:
        token_hash = self._hash("session", token)
        await self._writer.write(
            "signing out",
            lambda database: database.change(
                "DELETE FROM portal_sessions WHERE token_hash = ?", (token_hash,)
            ),
        )

    async def end_all(self, person_id: str) -> None:
        await self._writer.write(
            "signing out",
            lambda database: database.change(
                "DELETE FROM portal_sessions WHERE person_id = ?", (person_id,)
            ),
        )

    def form_token(self, token: str) -> str:
        """Stands in every form of a session, and follows from its cookie."""
        return self._hash("form", token).hex()

    def _code_hash(self, token: str, code: str) -> bytes:
        """A code is good in one browser only, so that its hash is of both."""
        return self._hash("code", f"{token} {code}")

    def _hash(self, kind: str, text: str) -> bytes:
        return hmac.digest(self._pepper, f"{kind} {text}".encode("utf-8", "replace"), "sha256")
