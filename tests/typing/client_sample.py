"""Checked by pyright and mypy: what users write against the client's types."""

from __future__ import annotations

from merino import AsyncOpenAI, ClientPolicy, Endpoint, HedgePolicy, OpenAI, RelayClient
from merino.batch import BatchProcessor
from merino.client import CallEvent, ClientMetrics, MetricsSink
from merino.client.metrics import AttemptEvent


class Sink:
    def attempt(self, event: AttemptEvent) -> None: ...

    def call(self, event: CallEvent) -> None: ...


def sync_text() -> str:
    sink: MetricsSink = Sink()
    policy = ClientPolicy(requests_per_minute=60, deadline_s=30.0, hedge=HedgePolicy(share=0.02))
    with OpenAI(api_key="k", policy=policy, sinks=[sink]) as client:
        answer = client.chat.completions.create(
            model="o3", messages=[{"role": "user", "content": "hi"}]
        )
        metrics: ClientMetrics = client.metrics
        return f"{answer.choices[0].message.content} {metrics}"


async def async_text() -> str | None:
    fallback = Endpoint("https://api.openai.com/v1", "sk")
    async with AsyncOpenAI(api_key="k", fallbacks=[fallback]) as client:
        answer = await client.chat.completions.create(
            model="o3", messages=[{"role": "user", "content": "hi"}]
        )
        return answer.choices[0].message.content


async def dictionary() -> int:
    client = RelayClient("k", on_empty="raise")
    answer = await client.chat_completion_async("o3", [], callback=print)
    tokens: int = answer["usage"]["total_tokens"]
    return tokens


async def in_order() -> list[str | None]:
    processor = BatchProcessor(AsyncOpenAI(api_key="k"), max_concurrent=5)
    custom_id: str = processor.enqueue("hi", model="o3-mini")
    status: dict[str, int] = processor.get_status()
    print(custom_id, status["queued"])
    return [item.error or item.content for item in await processor.process_batch()]
