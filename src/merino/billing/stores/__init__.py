"""The tables of the wing, in the folder's database: their schema is in `sqlite/migrations/`."""
