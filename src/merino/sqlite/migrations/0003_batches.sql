-- Files of accounts (their content lies in the folder `files`) and batches of calls.

CREATE TABLE files (
    id            TEXT PRIMARY KEY,
    account_id    TEXT NOT NULL REFERENCES accounts (id),
    filename      TEXT NOT NULL,
    purpose       TEXT NOT NULL,
    size_bytes    INTEGER NOT NULL,
    created_at_ms INTEGER NOT NULL,
    expires_at_ms INTEGER NOT NULL
) WITHOUT ROWID;
CREATE INDEX files_by_account ON files (account_id, created_at_ms, id);
CREATE INDEX files_by_expiry ON files (expires_at_ms);

CREATE TABLE batches (
    id             TEXT PRIMARY KEY,
    account_id     TEXT NOT NULL REFERENCES accounts (id),
    key_id         TEXT NOT NULL,
    endpoint       TEXT NOT NULL,
    input_file_id  TEXT NOT NULL,
    status         TEXT NOT NULL,
    created_at_ms  INTEGER NOT NULL,
    expires_at_ms  INTEGER NOT NULL,
    metadata       TEXT NOT NULL,
    moments_ms     TEXT NOT NULL,
    problems       TEXT NOT NULL,
    total          INTEGER NOT NULL DEFAULT 0,
    completed      INTEGER NOT NULL DEFAULT 0,
    failed         INTEGER NOT NULL DEFAULT 0,
    output_file_id TEXT,
    error_file_id  TEXT
) WITHOUT ROWID;
CREATE INDEX batches_by_account ON batches (account_id, created_at_ms, id);
CREATE INDEX batches_unfinished ON batches (created_at_ms)
    WHERE status IN ('validating', 'in_progress', 'finalizing', 'cancelling');

-- The queue. state: 0 waits, 1 is leased to a worker, 2 was answered, 3 ended with an error.
-- An answer gets here in the transaction that books its call.
CREATE TABLE batch_items (
    batch_id       TEXT NOT NULL,
    number         INTEGER NOT NULL,
    custom_id      TEXT NOT NULL,
    offset         INTEGER NOT NULL,
    size_bytes     INTEGER NOT NULL,
    state          INTEGER NOT NULL DEFAULT 0,
    tries          INTEGER NOT NULL DEFAULT 0,
    not_before_ms  INTEGER NOT NULL DEFAULT 0,
    worker         TEXT,
    lease_until_ms INTEGER,
    call_id        TEXT,
    status         INTEGER,
    answer         BLOB,
    PRIMARY KEY (batch_id, number)
) WITHOUT ROWID;
CREATE INDEX batch_items_open ON batch_items (batch_id, state, number) WHERE state < 2;
CREATE INDEX batch_items_by_state ON batch_items (batch_id, state);
