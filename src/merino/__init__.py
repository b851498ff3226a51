"""Merino: a self-hosted, OpenAI-compatible relay for reasoning models, and its client::

    from merino import OpenAI, AsyncOpenAI, RelayClient

The client, like the version, is loaded when it is first asked for, so that `import merino` stays
light.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from merino.client import AsyncOpenAI as AsyncOpenAI
    from merino.client import ClientPolicy as ClientPolicy
    from merino.client import Endpoint as Endpoint
    from merino.client import HedgePolicy as HedgePolicy
    from merino.client import OpenAI as OpenAI
    from merino.client import RelayClient as RelayClient

    __version__: str

_CLIENT = frozenset(
    ("AsyncOpenAI", "ClientPolicy", "Endpoint", "HedgePolicy", "OpenAI", "RelayClient")
)


def __getattr__(name: str) -> Any:
    if name in _CLIENT:
        from merino import client

        return getattr(client, name)
    if name == "__version__":
        return _version()
    raise AttributeError(f"module 'merino' has no attribute '{name}'")


def __dir__() -> list[str]:
    return sorted({*globals(), *_CLIENT, "__version__"})


def _version() -> str:
    """What was installed says it: the build took it from git's tags."""
    from importlib import metadata

    try:
        return metadata.version("merino")
    except metadata.PackageNotFoundError:  # its folder was put on the path
        return "0+unknown"
