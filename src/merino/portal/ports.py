"""What the portal needs of the outside."""

from __future__ import annotations

from typing import Protocol

from merino.domain.person import Proof


class SignIns(Protocol):
    """Letters with codes and links, and sessions; of every secret, its hash is kept."""

    async def add_letter(self, email: str, invitation_id: str | None) -> tuple[str, str, str]:
        """The browser's token, and the code and the link's token of a new letter."""
        ...

    async def try_code(self, token: str, code: str) -> tuple[str, str | None] | None:
        """The address, and the invitation it came with; used up by that, or by too many tries."""
        ...

    async def follow_link(self, link: str) -> tuple[str, str | None] | None:
        """As `try_code`, in any browser."""
        ...

    async def begin(
        self, proof: Proof, person_id: str | None, invitation_id: str | None
    ) -> str: ...

    async def find(self, token: str) -> tuple[Proof, str | None, str | None, str | None] | None:
        """What was proved, the invitation, the person, the account they look at."""
        ...

    async def bind(self, token: str, person_id: str, account_id: str | None) -> None:
        """The session is this person's, and looks at this account."""
        ...

    async def end(self, token: str) -> None: ...

    async def end_all(self, person_id: str) -> None: ...

    def form_token(self, token: str) -> str:
        """Stands in every form of a session."""
        ...


class Post(Protocol):
    """Who sends letters, and says nothing about it."""

    @property
    def is_there(self) -> bool: ...

    def post(self, to: str, subject: str, text: str) -> None: ...
