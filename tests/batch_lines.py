"""Files of batches, as tests write and read them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any


def lines(count: int, **body: Any) -> str:
    """So many calls, whose bodies have these members, too."""
    return "".join(
        json.dumps(
            {
                "custom_id": f"call-{number}",
                "method": "POST",
                "url": "/v1/chat/completions",
                "body": {
                    "model": "o3",
                    "messages": [{"role": "user", "content": f"Number {number}"}],
                    "max_completion_tokens": 20,
                }
                | body,
            }
        )
        + "\n"
        for number in range(count)
    )


def ids(path: Path) -> list[str]:
    """Of what stands in a file, line by line."""
    return [json.loads(line)["custom_id"] for line in path.read_text().splitlines()]
