"""Money: balances and holds in memory, the journal that makes them durable, and what fills the
database behind it."""
