-- Sums of calls, and who changed what.

-- level 0: five minutes, 1: an hour, 2: a day, each by everything; 3: an hour by account alone.
CREATE TABLE call_sums (
    level            INTEGER NOT NULL,
    slot             INTEGER NOT NULL,
    account_id       TEXT NOT NULL,
    key_id           TEXT NOT NULL,
    alias            TEXT NOT NULL,
    deployment       TEXT NOT NULL,
    calls            INTEGER NOT NULL,
    refused          INTEGER NOT NULL,
    failed           INTEGER NOT NULL,
    input_tokens     INTEGER NOT NULL,
    cached_tokens    INTEGER NOT NULL,
    output_tokens    INTEGER NOT NULL,
    reasoning_tokens INTEGER NOT NULL,
    charged_nanos    INTEGER NOT NULL,
    upstream_nanos   INTEGER NOT NULL,
    PRIMARY KEY (level, slot, account_id, key_id, alias, deployment)
) WITHOUT ROWID;
-- Rows of `calls` up to this one are summed up.
INSERT INTO meta VALUES ('summed_row', 0);

CREATE TABLE audit (
    id      INTEGER PRIMARY KEY AUTOINCREMENT,
    at_ms   INTEGER NOT NULL,
    actor   TEXT NOT NULL,
    action  TEXT NOT NULL,
    target  TEXT NOT NULL,
    details TEXT NOT NULL
);
