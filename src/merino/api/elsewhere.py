"""Requests of other dialects, and OpenAI paths that are not served: told in a shape that the client
understands, with the way to reach what is.

Claude Code shows the message of Anthropic's error shape, google-genai that of Google's.
"""

from __future__ import annotations

import json
import re

# With one /v1 too many, as who names the base URL with it gets it.
_GEMINI = re.compile(rb"(?:/v1[a-z]*)+/(?:models|tunedModels)/.+:[A-Za-z]+/?\Z")
_ANTHROPIC = re.compile(rb"(?:/v1)+/(?:messages|complete)(?:/.*)?\Z")
_TWICE = re.compile(rb"(?:/v1){2,}/messages(?:/count_tokens)?/?\Z")

_USE_CHAT = "POST /v1/chat/completions"
_OF_PATHS = (
    (
        "responses",
        (
            "There are POST /v1/responses, /v1/responses/input_tokens and /v1/responses/compact; "
            "GET and DELETE /v1/responses/{id}, POST .../cancel and GET .../input_items."
        ),
    ),
    (
        "conversations",
        (
            "There are POST /v1/conversations; GET, POST and DELETE /v1/conversations/{id}; GET "
            "and POST .../items; GET and DELETE .../items/{item_id}."
        ),
    ),
    (
        "assistants",
        f"Assistants are not served here; keep the messages yourself and use {_USE_CHAT}.",
    ),
    ("threads", f"Threads are not served here; keep the messages yourself and use {_USE_CHAT}."),
    (
        "vector_stores",
        (
            "Vector stores are not served here; make vectors with POST /v1/embeddings and search "
            "them yourself."
        ),
    ),
    (
        "completions",
        (
            f"Plain completions are not served here; use {_USE_CHAT} with the prompt as a user "
            "message. LangChain: ChatOpenAI instead of OpenAI. Vercel AI SDK: openai.chat(MODEL)."
        ),
    ),
    (
        "audio",
        (
            "Speech and transcription are not served here; ask their provider directly. Audio "
            f"inside messages can be sent with {_USE_CHAT} to models that take it."
        ),
    ),
    (
        "images",
        (
            "Making images is not served here; ask its provider directly. Pictures can be sent to "
            f"models that see with {_USE_CHAT}."
        ),
    ),
    ("moderations", "Moderations are not served here; ask their provider directly."),
    ("realtime", f"The Realtime API is not served here; use {_USE_CHAT} with stream = true."),
    ("fine_tuning", "Fine-tuning is not done here; ask the models' provider directly."),
    ("uploads", "Uploads in parts are not served here; send the file whole with POST /v1/files."),
    ("engines", f"Engines are of an old API; use {_USE_CHAT} with the model's name in the body."),
    (
        "chat",
        (
            f"Kept chat completions are not served here; only {_USE_CHAT} is. `merino calls` and "
            "GET /v1/calls/{request_id} show what was asked."
        ),
    ),
    ("rerank", "Reranking is not served here; ask its provider directly."),
)
_SERVED = (
    "This relay serves POST /v1/chat/completions, /v1/responses, /v1/messages, /v1/embeddings, "
    "/v1/estimate, "
    "GET /v1/models, /v1/calls/{request_id}, and /v1/files and /v1/batches."
)


def not_served(path: bytes) -> str:
    """What to tell of a path that is not served: how that client reaches what is, if it is known
    whose path it is."""
    shown = path[:200].decode("latin-1")
    first = shown.removeprefix("/v1/").partition("/")[0]
    for name, message in _OF_PATHS:
        if first == name:
            return f"Unknown path '{shown}'. {message}"
    return f"Unknown path '{shown}'. {_SERVED}"


def is_foreign(target: bytes) -> bool:
    """Whether a path is another dialect's, wherever in the relay it would belong."""
    path = target.partition(b"?")[0]
    return _ANTHROPIC.match(path) is not None or _GEMINI.match(path) is not None


def foreign_answer(target: bytes) -> tuple[str, bytes]:
    """Message and body of the answer (400) to a request of another vendor's dialect."""
    path = target.partition(b"?")[0]
    if _ANTHROPIC.match(path):
        shown = path[:200].decode("latin-1")
        message = (
            f"Unknown path '{shown}'. Of Anthropic's API this relay serves POST /v1/messages, "
            "/v1/messages/count_tokens and GET /v1/models."
        )
        if _TWICE.match(path):
            message = (
                f"Unknown path '{shown}': the base URL of Anthropic's clients is without /v1 "
                "(ANTHROPIC_BASE_URL); they add it."
            )
        body = {"type": "error", "error": {"type": "invalid_request_error", "message": message}}
        return message, json.dumps(body).encode()
    message = (
        "This relay does not speak Gemini's API: send chat completions to /v1/chat/completions "
        "with an OpenAI client; the model's name goes into the body."
    )
    error = {"code": 400, "message": message, "status": "INVALID_ARGUMENT"}
    return message, json.dumps({"error": error}).encode()
