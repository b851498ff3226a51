"""The glossary as plain data: every noun of a relay, and nothing that does I/O."""
