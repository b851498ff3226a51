"""SQLite, typed: connections and transactions, the schema, threads that read, and the folder that
one process owns."""
