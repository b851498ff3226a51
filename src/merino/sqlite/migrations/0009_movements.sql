-- Movements of money that were asked for with an idempotency key: which entries each made, and a hash
-- of what was asked. Kept as long as entries, which is for good.
CREATE TABLE movements (
    idempotency_key TEXT PRIMARY KEY,
    request_hash    BLOB NOT NULL,
    first_entry     INTEGER NOT NULL REFERENCES entries (id),
    last_entry      INTEGER NOT NULL REFERENCES entries (id)
) WITHOUT ROWID;

-- The times of each 4096 entries: what an index by time would be for, at no cost to calls. Only spans
-- to which nothing can be added any more are here.
CREATE TABLE entry_spans (
    span     INTEGER PRIMARY KEY,
    first_ms INTEGER NOT NULL,
    last_ms  INTEGER NOT NULL
);
INSERT INTO entry_spans
SELECT id / 4096, min(at_ms), max(at_ms) FROM entries
WHERE id < (SELECT coalesce(max(id), 0) / 4096 * 4096 FROM entries) GROUP BY 1;
