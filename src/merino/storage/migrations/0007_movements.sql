-- Movements of money that were asked for with an idempotency key: which entries each made, and a hash
-- of what was asked. Kept as long as entries, which is for good.
CREATE TABLE movements (
    idempotency_key TEXT PRIMARY KEY,
    request_hash    BLOB NOT NULL,
    first_entry     INTEGER NOT NULL REFERENCES entries (id),
    last_entry      INTEGER NOT NULL REFERENCES entries (id)
) WITHOUT ROWID;
