"""Secrets as references: `env:NAME`, `file:PATH`, or (unwise) the secret itself."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

_SECRET_BYTES_MAX = 64 * 1024

LookUp = Callable[[str], object]
"""How a check tries a reference, if it does. Raises `ValueError`, worded without the secret."""


def is_reference(text: str) -> bool:
    return text.startswith(("env:", "file:"))


def read_secret(reference: str, *, folder: Path, environ: Mapping[str, str]) -> str:
    """The secret a reference stands for; a text that is no reference stands for itself.

    `folder` is what relative paths start from. Raises `ValueError`, worded without the secret.
    """
    kind, _, rest = reference.partition(":")
    if kind == "env":
        secret = environ.get(rest.strip(), "")
        if not secret.strip():
            raise ValueError(f"the environment variable {rest.strip()!r} is not set; set it")
    elif kind == "file":
        path = folder / Path(rest.strip()).expanduser()
        try:
            with path.open("rb") as file:
                secret = file.read(_SECRET_BYTES_MAX).decode()
        except UnicodeDecodeError:
            raise ValueError(f"the file {path} is not UTF-8 text") from None
        except (OSError, ValueError) as error:
            reason = (error.strerror if isinstance(error, OSError) else None) or "not a file name"
            raise ValueError(f"the file {path} cannot be read: {reason}") from None
        if not secret.strip():
            raise ValueError(f"the file {path} is empty; write the secret into it")
    else:
        secret = reference
    secret = secret.strip()
    if not secret.isprintable() or not secret.isascii():
        raise ValueError("the secret has characters that no HTTP header may carry")
    return secret
