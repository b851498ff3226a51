"""PostgreSQL as the bank that several relays share: connections, the schema, the rounds."""
