"""Where telemetry goes must be somewhere."""

from __future__ import annotations

from merino.settings.problems import Problem
from merino.settings.tree import Settings


def check_telemetry(settings: Settings, problems: list[Problem], warnings: list[Problem]) -> None:
    told = settings.telemetry
    if told.url and not told.url.startswith(("http://", "https://")):
        message = "must begin with http:// or https://, such as http://127.0.0.1:4318"
        problems.append(Problem(("telemetry", "url"), told.url, message))
    if told.url.rstrip("/").endswith(("/v1/traces", "/v1/metrics", "/v1/logs")):
        message = "write the address without /v1/…, which is added"
        problems.append(Problem(("telemetry", "url"), told.url, message))
    if told.content and not settings.calls.store_content:
        message = (
            "prompts and answers are not kept, so none are sent; set calls.store_content = true"
        )
        warnings.append(Problem(("telemetry", "content"), told.content, message))
    names: set[str] = set()
    for index, sink in enumerate(settings.sinks):
        path = ("sinks", index)
        if sink.name in names:
            problems.append(Problem((*path, "name"), sink.name, "another sink has this name too"))
        names.add(sink.name)
        if sink.path is None and not sink.url:
            problems.append(Problem(path, None, "give a path, a url, or both"))
        if sink.url and not sink.url.startswith(("http://", "https://")):
            problems.append(Problem((*path, "url"), sink.url, "must begin with https://"))
