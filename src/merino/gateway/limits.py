"""Request and token limits: the place in the pipeline. `Unlimited` grants everything."""

from __future__ import annotations

from merino.domain.key import VirtualKey
from merino.domain.usage import Usage
from merino.gateway.ports import Headers, Permit


class _FreePermit:
    __slots__ = ()

    def release(self, usage: Usage | None) -> None:
        pass


_FREE = _FreePermit()


class Unlimited:
    """No limit applies to anyone."""

    def take(self, key: VirtualKey, alias: str, tokens: int) -> Permit:
        return _FREE

    def headers(self, key: VirtualKey, alias: str) -> Headers:
        return []
