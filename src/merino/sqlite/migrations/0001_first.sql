-- Amounts are integer nano-units, times epoch milliseconds in UTC.

CREATE TABLE meta (
    name  TEXT PRIMARY KEY,
    value INTEGER NOT NULL
) WITHOUT ROWID;
-- Everything in the journal up to this sequence number is in these tables.
INSERT INTO meta VALUES ('applied_seq', 0);

CREATE TABLE accounts (
    id              TEXT PRIMARY KEY,
    name            TEXT NOT NULL UNIQUE,
    currency        TEXT NOT NULL,
    overdraft_nanos INTEGER NOT NULL,
    created_at_ms   INTEGER NOT NULL,
    disabled        INTEGER NOT NULL DEFAULT 0
) WITHOUT ROWID;

-- What the entries of an account add up to, kept beside them so that starting is fast.
CREATE TABLE balances (
    account_id   TEXT PRIMARY KEY,
    posted_nanos INTEGER NOT NULL
) WITHOUT ROWID;
INSERT INTO balances VALUES ('@revenue', 0), ('@funding', 0);

CREATE TABLE keys (
    id              TEXT PRIMARY KEY,
    account_id      TEXT NOT NULL REFERENCES accounts (id),
    name            TEXT NOT NULL UNIQUE,
    hint            TEXT NOT NULL,
    secret_hash     BLOB NOT NULL UNIQUE,
    aliases         TEXT NOT NULL,
    created_at_ms   INTEGER NOT NULL,
    expires_at_ms   INTEGER,
    disabled        INTEGER NOT NULL DEFAULT 0,
    spend_cap_nanos INTEGER,
    spend_period    TEXT NOT NULL,
    rps             INTEGER,
    rpm             INTEGER,
    tpm             INTEGER,
    concurrency     INTEGER
) WITHOUT ROWID;

CREATE TABLE admin_keys (
    id            TEXT PRIMARY KEY,
    name          TEXT NOT NULL UNIQUE,
    hint          TEXT NOT NULL,
    secret_hash   BLOB NOT NULL UNIQUE,
    created_at_ms INTEGER NOT NULL,
    disabled      INTEGER NOT NULL DEFAULT 0
) WITHOUT ROWID;

-- What each key spent on each UTC day (days since 1970), for its caps.
CREATE TABLE key_days (
    key_id      TEXT NOT NULL,
    day         INTEGER NOT NULL,
    spent_nanos INTEGER NOT NULL,
    PRIMARY KEY (key_id, day)
) WITHOUT ROWID;

CREATE TABLE entries (
    id             INTEGER PRIMARY KEY AUTOINCREMENT,
    at_ms          INTEGER NOT NULL,
    kind           TEXT NOT NULL,
    debit_account  TEXT NOT NULL,
    credit_account TEXT NOT NULL,
    amount_nanos   INTEGER NOT NULL CHECK (amount_nanos > 0),
    call_id        TEXT,
    key_id         TEXT,
    upstream_nanos INTEGER NOT NULL DEFAULT 0,
    price_id       TEXT,
    memo           TEXT,
    -- The customer's side: the other one is @revenue or @funding.
    account_id     TEXT GENERATED ALWAYS AS (
        CASE WHEN debit_account LIKE '@%' THEN credit_account ELSE debit_account END
    ) VIRTUAL
);
CREATE INDEX entries_by_account ON entries (account_id);
CREATE INDEX entries_by_call ON entries (call_id) WHERE call_id IS NOT NULL;
CREATE INDEX entries_by_kind ON entries (kind) WHERE kind <> 'settle';

-- `call_id` is not unique here on purpose: whatever the journal says can be written. That it is
-- unique is what `merino ledger verify` checks.
CREATE TABLE calls (
    row                INTEGER PRIMARY KEY,
    id                 TEXT NOT NULL,
    account_id         TEXT NOT NULL,
    key_id             TEXT NOT NULL,
    alias              TEXT NOT NULL,
    endpoint           TEXT NOT NULL,
    at_ms              INTEGER NOT NULL,
    status             INTEGER NOT NULL,
    deployment         TEXT NOT NULL,
    upstream_model     TEXT NOT NULL,
    streamed           INTEGER NOT NULL,
    error_code         TEXT,
    finish_reason      TEXT,
    resolution         TEXT NOT NULL,
    duration_ms        REAL,
    ttft_ms            REAL,
    queue_ms           REAL,
    relay_ms           REAL,
    upstream_ms        REAL,
    input_tokens       INTEGER NOT NULL,
    output_tokens      INTEGER NOT NULL,
    cached_tokens      INTEGER NOT NULL,
    cache_write_tokens INTEGER NOT NULL,
    reasoning_tokens   INTEGER NOT NULL,
    usage_source       TEXT NOT NULL,
    held_nanos         INTEGER NOT NULL,
    charged_nanos      INTEGER NOT NULL,
    overrun_nanos      INTEGER NOT NULL,
    upstream_nanos     INTEGER NOT NULL,
    price_id           TEXT,
    idempotency_key    TEXT,
    attempts           TEXT NOT NULL,
    request_json       TEXT,
    response_text      TEXT
);
CREATE INDEX calls_by_id ON calls (id);
CREATE INDEX calls_by_time ON calls (at_ms);
CREATE INDEX calls_by_account ON calls (account_id, at_ms);
CREATE INDEX calls_by_key ON calls (key_id, at_ms);
CREATE INDEX calls_by_alias ON calls (alias, at_ms);
-- Nearly every call is a settled 200; these two hold the others.
CREATE INDEX calls_by_status ON calls (status, at_ms) WHERE status <> 200;
CREATE INDEX calls_by_resolution ON calls (resolution, at_ms) WHERE resolution <> 'settled';

CREATE TABLE replays (
    id           BLOB PRIMARY KEY,
    body_hash    BLOB NOT NULL,
    call_id      TEXT NOT NULL,
    status       INTEGER NOT NULL,
    content_type TEXT NOT NULL,
    body         BLOB NOT NULL,
    at_ms        INTEGER NOT NULL
);
CREATE INDEX replays_by_time ON replays (at_ms);
