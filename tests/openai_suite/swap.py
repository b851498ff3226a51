"""A pytest plugin: has the openai package's own tests meet Merino's clients.

One client of the suite serves hundreds of tests that fail on purpose. Breaker and retry budget, which
would rightly leave such a server alone, are therefore wide open; everything else is as it comes.
"""

from __future__ import annotations

import openai

from merino.client import clients
from merino.client.policy import ClientPolicy

clients.DEFAULT_POLICY = ClientPolicy(breaker_threshold=10**6, retry_reserve=10**6)
openai.OpenAI = openai.Client = clients.OpenAI
openai.AsyncOpenAI = openai.AsyncClient = clients.AsyncOpenAI
