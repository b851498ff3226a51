"""One client in several processes, threads and event loops."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

from merino.simulator.server import simulator_in_thread

BEGIN = """
import asyncio, json, os, sys, threading
import merino
from merino.client import ClientPolicy, HedgePolicy

messages = [{"role": "user", "content": "hi"}]
policy = ClientPolicy(max_concurrency=2, requests_per_minute=100, hedge=HedgePolicy(samples_min=2))

def ask(client, text):
    found = client.chat.completions.create(
        model="plain", messages=[{"role": "user", "content": text}], max_tokens=60)
    return text in found.choices[0].message.content
"""
FORK = """
client = merino.OpenAI(api_key="k", policy=policy)
assert all(ask(client, f"before {n}") for n in range(4))
children = []
for child in range(3):
    pid = os.fork()
    if pid == 0:
        try:
            fine = all(ask(client, f"child {child} call {n}") for n in range(6))
        except BaseException as error:
            print(repr(error), file=sys.stderr)
            fine = False
        os._exit(0 if fine else 1)
    children.append(pid)
assert all(ask(client, f"meanwhile {n}") for n in range(6))
codes = [os.waitpid(pid, 0)[1] for pid in children]
client.close()
print(json.dumps({"codes": codes, "calls": client.metrics.calls}))
"""
LOOPS = """
client = merino.AsyncOpenAI(api_key="k", policy=policy)

async def several(text):
    async def one(n):
        found = await client.chat.completions.create(
            model="plain", messages=[{"role": "user", "content": f"{text} {n}"}], max_tokens=60)
        return f"{text} {n}" in found.choices[0].message.content
    return all(await asyncio.gather(*(one(n) for n in range(6))))

fine = []
threads = [
    threading.Thread(target=lambda n=n: fine.append(asyncio.run(several(f"thread {n}"))))
    for n in range(3)
]
[thread.start() for thread in threads]
[thread.join() for thread in threads]
fine += [asyncio.run(several("first run")), asyncio.run(several("second run"))]
print(json.dumps({"fine": fine, "calls": client.metrics.calls}))
"""
NOTEBOOK = """
async def cell():
    # A notebook's cell: the loop runs already, and synchronous calls are made all the same.
    with merino.OpenAI(api_key="k", policy=policy) as client:
        fine = [ask(client, f"sync {n}") for n in range(4)]
    relayed = merino.RelayClient("k", os.environ["MERINO_BASE_URL"])
    fine.append("hi" in relayed.chat_completion("plain", messages)["content"])
    fine.append("hi" in (await relayed.chat_completion_async("plain", messages))["content"])
    await relayed.aclose()
    return fine, [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]

fine, left = asyncio.run(cell())
print(json.dumps({"fine": fine, "left": len(left)}))
"""


@pytest.mark.parametrize(
    ("script", "expected"),
    [
        (FORK, {"codes": [0, 0, 0], "calls": 10}),
        (LOOPS, {"fine": [True] * 5, "calls": 30}),
        (NOTEBOOK, {"fine": [True] * 6, "left": 0}),
    ],
    ids=["fork", "loops", "notebook"],
)
def test_one_client_everywhere(script, expected) -> None:
    """Forked children, threads with loops of their own, one loop after the other and a running one
    get answers to their own questions, without a warning."""
    with simulator_in_thread() as server:
        done = subprocess.run(
            [sys.executable, "-W", "error", "-c", BEGIN + script],
            env=os.environ | {"MERINO_BASE_URL": server.base_url},
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )
    assert (0, "") == (done.returncode, done.stderr)
    assert expected == json.loads(done.stdout)
