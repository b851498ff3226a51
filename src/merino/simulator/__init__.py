"""The simulated provider: deterministic answers, and every failure on demand, without a network."""
