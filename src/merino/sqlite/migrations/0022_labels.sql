-- What calls say they are about, and where they came from.

ALTER TABLE calls ADD COLUMN end_user TEXT;
ALTER TABLE calls ADD COLUMN tags     TEXT;
ALTER TABLE calls ADD COLUMN metadata TEXT;
ALTER TABLE calls ADD COLUMN address  TEXT;

-- Sums of calls by what they say: `name` is user, tag or metadata; a call with two tags counts for
-- each. level 1: an hour, 2: a day, as in call_sums; 3 and 4 the same by account alone. A day has a limited number of values; calls of
-- others count for the value '…'.
CREATE TABLE label_sums (
    name              TEXT NOT NULL,
    level             INTEGER NOT NULL,
    slot              INTEGER NOT NULL,
    value             TEXT NOT NULL,
    account_id        TEXT NOT NULL,
    key_id            TEXT NOT NULL,
    alias             TEXT NOT NULL,
    deployment        TEXT NOT NULL,
    calls             INTEGER NOT NULL,
    refused           INTEGER NOT NULL,
    failed            INTEGER NOT NULL,
    input_tokens      INTEGER NOT NULL,
    cached_tokens     INTEGER NOT NULL,
    output_tokens     INTEGER NOT NULL,
    reasoning_tokens  INTEGER NOT NULL,
    charged_nanos     INTEGER NOT NULL,
    upstream_nanos    INTEGER NOT NULL,
    first_token_calls INTEGER NOT NULL,
    first_token_ms    INTEGER NOT NULL,
    generated_tokens  INTEGER NOT NULL,
    generating_ms     INTEGER NOT NULL,
    PRIMARY KEY (name, level, slot, value, account_id, key_id, alias, deployment)
) WITHOUT ROWID;
CREATE INDEX label_sums_by_value ON label_sums (name, value, level, slot);
