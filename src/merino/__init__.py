"""Merino: a self-hosted, OpenAI-compatible relay for reasoning models."""

__version__ = "0.1.0"
