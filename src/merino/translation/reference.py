"""The reference of translations, made of the tables they work by: `docs/reference/translation.md`."""

# ruff: noqa: E501 - rows of a page

from __future__ import annotations

import sys
from collections.abc import Mapping

from merino.translation.chat.request_read import FIELDS as CHAT_FIELDS
from merino.translation.chat.request_written import SETTINGS as CHAT_SETTINGS
from merino.translation.fields import Field
from merino.translation.meanings import MEANINGS
from merino.translation.messages.request_read import FIELDS as MESSAGES_FIELDS
from merino.translation.messages.request_written import SETTINGS as MESSAGES_SETTINGS
from merino.translation.responses.items_read import ITEMS
from merino.translation.responses.request_read import FIELDS as RESPONSES_FIELDS
from merino.translation.responses.request_written import SETTINGS as RESPONSES_SETTINGS
from merino.translation.thinking import BUDGETS, effort_of

_BEGIN = """\
# Translation

A call goes to its upstream in the caller's own dialect where the upstream takes it. Where it does not,
the relay carries the call over into the other one, and the answer back: calls to `/v1/responses` reach
upstreams that have chat completions only, chat calls reach models that are asked through the
Responses API only, and both reach Anthropic's Messages, whose clients reach all of them; all reach Gemini. Which road it is, the deployment's `endpoints` say, or it is learned from what the
upstream refuses. The header `x-merino-adjusted` says that, and what was changed on the way; what cannot be
carried is a 400 that names the field. Fields that neither dialect knows go along as they are.

This page is made of the tables that translations work by: `python -m merino.translation.reference`.
"""

_ITEMS = """
## Input items

| item | in a chat |
|---|---|
| `message` | a message; the first system and developer messages become one |
| `function_call`, `custom_tool_call` | calls of one assistant message, as many as were made at once |
| `function_call_output`, `custom_tool_call_output` | a tool message behind the call's; pictures and files follow in a user message, and that is told |
| `reasoning` | `reasoning_content`, within the turn of tool calls it was for; what another vendor sealed stays out |
| `additional_tools` | tools |
| `configuration_update` | left out, and told |
| `item_reference` and all others | refused: they are of tools that the upstream runs, or of what it keeps |

Tools are carried if the caller runs them: functions as they are, custom tools as functions with one
text `input` (a grammar becomes part of the description, since nothing enforces it there), functions of
a namespace under `namespace__name`. Calls come back under the names and kinds that the caller gave.
`tool_choice` of type `allowed_tools` shortens the list of tools, and that is told. Tools that the
upstream would run (`web_search`, `file_search`, `mcp` …) are refused; in Codex, web search is switched
off with `web_search = "disabled"`.
"""

_ANSWERS = """
## Answers

| chat | Responses API |
|---|---|
| `content` | an `output_text` part of one message |
| `reasoning_content`, `reasoning`, thinking parts | a reasoning item: its content, or its summary if the caller asked for `reasoning.summary`; ended before anything else begins |
| `refusal` | a `refusal` part |
| `tool_calls` | `function_call` and `custom_tool_call` items; pieces of several calls may come in turns |
| `annotations` with `url_citation` | annotations of the text |
| `logprobs.content` | `logprobs` of the text |
| `finish_reason` `length`, `content_filter` | `incomplete`, with `max_output_tokens`, `content_filter` |
| any other `finish_reason` | `completed` |
| `usage` | `usage`, every count; `null` if none was reported |
| an error in the stream | `error`, then `response.failed` |

The other way it is the same table read from right to left. Thinking that only its issuer can read
(`encrypted_content`) reaches a chat as `reasoning_details` with the format `openai-responses-v1`; a
caller who sends the message back as it came gives the model its thinking back.

Responses that came through a chat are kept nowhere: they say `store: false`.
"""


_MESSAGES = """
## Anthropic's Messages

| messages | chat | Responses API |
|---|---|---|
| `text`, `image`, `document` (PDF, text, URL) | text, `image_url`, `file`; no files by URL | `input_text`, `input_image`, `input_file` |
| `tool_use` | a call; several of one turn together | `function_call` |
| `tool_result` | a tool message; pictures follow in a message of the user, and that is told | `function_call_output` |
| the user's next message | begins with the results of all calls of the turn, in the calls' order | the same |
| `thinking` | `reasoning_content`, and `reasoning_details` with the signature (format `anthropic-claude-v1`) | a reasoning item, its signature as `encrypted_content` |
| `redacted_thinking` | `reasoning_details` of type `reasoning.encrypted` | a reasoning item |
| `cache_control` | kept on the way to Messages, also from parts of a chat; four marks at most; told where there is no place for it | the same |
| `is_error` | left out and told: the output says it | the same |
| instructions that come late | stand in `system`, and that is told | the same |
| custom tools, namespaces | functions, as above | functions, as above |
| a format without a schema | asked for in words, and that is told | the same |
| `server_tool_use` and results of it in a conversation | left out and told; as a tool it is refused | the same |

A seal has its maker's name before it (`merino.openai. …`) wherever it lies in another dialect's field, and goes
back to that maker only; thinking that nobody sealed says `merino.nobody.`. From a Messages upstream the relay keeps
every seal that is not Anthropic's. If a client lost the thinking of a turn of tool calls, the rest of the turn goes
without (`thinking: disabled`), since it would be refused otherwise.

An effort becomes `thinking: adaptive` with `output_config.effort`. A model that refuses those gets a budget, at once
the next time. Budgets of callers become the effort next above them; what was changed is told.

| chat, Responses | messages | budget where there must be one |
|---|---|---|
{efforts}

| messages | chat | Responses API |
|---|---|---|
| `end_turn`, `stop_sequence`, `pause_turn` | `stop` | `completed` |
| `max_tokens`, `model_context_window_exceeded` | `length` | `incomplete`, `max_output_tokens` |
| `tool_use` | `tool_calls` | `completed`, with the calls |
| `refusal` | `content_filter` | `incomplete`, `content_filter` |

{gemini}
Streams are carried event by event. Messages have one block open at a time: pieces of several calls that come in turns
wait until the call before them is whole. The first event tells an estimate of the input, the last one what was used.
"""


_GEMINI = """\
## Gemini

Upstreams of `generateContent` are asked with `contents`, `systemInstruction`, `functionDeclarations` and
`generationConfig`. Schemas go as `parametersJsonSchema` and `responseJsonSchema`, with references put where they
point. Strict tools make the calling mode `VALIDATED`; `tool_choice` of several tools is `allowedFunctionNames`.
An effort becomes `thinkingLevel` (`none`: a budget of 0; `max`: `XHIGH`, and that is told); a model that refuses it
gets the budget of the table above. A thought signature belongs to its part: it reaches callers as sealed thinking
before that part (`google-gemini-v1` in a chat, `merino.gemini. …` elsewhere) and goes back to it; a call of the
running turn that lost its signature says so in Google's own word for that. Thoughts are billed beside the answer,
what tools brought beside the prompt, sound at its own rate. `SAFETY` and its like are `content_filter`, as is a
prompt that was refused.
"""


def _efforts() -> str:
    rows = ["| `none` | `thinking: disabled` | |"]
    rows += [f"| `{each}` | `{effort_of(each)}` | {tokens:,} |" for each, tokens in BUDGETS.items()]
    return "\n".join(rows)


def reference() -> str:
    """The page."""
    from_messages = _table(MESSAGES_FIELDS, CHAT_SETTINGS, "chat")
    to_messages = _table(CHAT_FIELDS, MESSAGES_SETTINGS, "messages")
    to_chat = _table(RESPONSES_FIELDS, CHAT_SETTINGS, "chat")
    to_responses = _table(CHAT_FIELDS, RESPONSES_SETTINGS, "Responses API")
    assert set(ITEMS) <= set(_ITEMS.replace("`", " ").replace(",", " ").split())
    return (
        f"{_BEGIN}\n## Fields of the Responses API, in a chat\n\n{to_chat}"
        f"{_ITEMS}\n## Fields of a chat, in the Responses API\n\n{to_responses}"
        f"\nNothing is kept at the upstream: `store` is `false` there.\n{_ANSWERS}"
        f"{_MESSAGES.format(efforts=_efforts(), gemini=_GEMINI)}"
        f"\n### Fields of Messages, in a chat\n\n{from_messages}"
        f"\n### Fields of a chat, in Messages\n\n{to_messages}"
    )


def _table(fields: Mapping[str, Field], names: Mapping[str, str], family: str) -> str:
    rows = [f"| field | {family} |", "|---|---|"]
    rows += [f"| `{name}` | {_fate(field, names)} |" for name, field in sorted(fields.items())]
    return "\n".join(rows) + "\n"


def _fate(field: Field, names: Mapping[str, str]) -> str:
    if field.meaning is None:
        return field.note
    written = names.get(field.meaning)
    if written:
        return f"`{written}`"
    if written is not None:
        return _PARTS.get(field.meaning, "not sent; the answer repeats it")
    meaning = MEANINGS[field.meaning]
    harmless = "".join(f", `{value.decode()}`" for value in meaning.harmless)
    unless = f" (not if it asks for nothing: `null`{harmless})"
    if meaning.otherwise == "refuse":
        return f"refused{unless}: {meaning.why}"
    if meaning.otherwise == "tell":
        return f"left out and told{unless}: {meaning.why}"
    return f"left out: {meaning.why}"


_PARTS = {
    "effort": "the effort (see below); with it, sealed thinking is asked for",
    "verbosity": "`text.verbosity`",
    "logprobs": "`include: [message.output_text.logprobs]`",
    "store": "not sent: nothing is kept",
    "parallel_tool_calls": "`tool_choice.disable_parallel_tool_use`",
    "user": "`metadata.user_id`",
    "safety_identifier": "`metadata.user_id`, if there is no `user`",
    "summary": "the thinking is shown anyway",
    "extras": "sealed thinking is there anyway",
}

if __name__ == "__main__":
    sys.stdout.write(reference())
