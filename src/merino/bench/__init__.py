"""The benchmark: honest latency and throughput of any OpenAI-compatible endpoint."""
