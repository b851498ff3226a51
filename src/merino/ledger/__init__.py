"""Money: balances and holds in memory, the journal that makes them durable, and the code that fills
the database behind it."""
