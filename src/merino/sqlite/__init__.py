"""SQLite, typed: connections and transactions, the schema, threads that read, and the data folder
that one process owns."""
