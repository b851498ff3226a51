"""JSON as upstreams really send it: with NaN, lone surrogates, and numbers of any length."""

from __future__ import annotations

import json


def decode_lenient(body: bytes) -> object:
    """Decode UTF-8 JSON. Raises `ValueError` for anything that is not JSON.

    An emoji's escaped surrogates may come in two chunks of a stream; each half alone is no error.
    """
    try:
        return json.loads(body.decode("utf-8-sig", "surrogatepass"), parse_int=_parse_int)
    except RecursionError:
        raise ValueError("nested too deeply") from None


def encode_lenient(value: object) -> bytes:
    """What `decode_lenient` gave, as JSON again."""
    return json.dumps(value, ensure_ascii=False).encode("utf-8", "surrogatepass")


def _parse_int(digits: str) -> int | float:
    # Python refuses to read integers of more than 4,300 digits.
    return int(digits) if len(digits) <= 4300 else float(digits)
