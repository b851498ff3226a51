-- Responses that are made in the background: those that have not ended, with what is held for them,
-- so that the next process goes on with what a dead one was doing.

CREATE TABLE background_jobs (
    call_id         TEXT PRIMARY KEY,
    account_id      TEXT NOT NULL,
    key_id          TEXT NOT NULL,
    response_id     TEXT NOT NULL,
    alias           TEXT NOT NULL,
    deployment      TEXT NOT NULL,
    is_native       INTEGER NOT NULL,
    at_ms           INTEGER NOT NULL,
    held_nanos      INTEGER NOT NULL,
    output_tokens   INTEGER NOT NULL,
    expires_after_s REAL NOT NULL,
    sealed          BLOB NOT NULL
) WITHOUT ROWID;

-- What such a response has said so far, and its stream once it has ended.
CREATE TABLE background_events (
    number      INTEGER PRIMARY KEY,
    account_id  TEXT NOT NULL,
    response_id TEXT NOT NULL,
    at_ms       INTEGER NOT NULL,
    sealed      BLOB NOT NULL
);
CREATE INDEX background_events_of ON background_events (account_id, response_id, number);
CREATE INDEX background_events_by_age ON background_events (at_ms);
CREATE TRIGGER kept_responses_unsaid AFTER DELETE ON kept_responses BEGIN
    DELETE FROM background_events
    WHERE account_id = old.account_id AND response_id = old.id;
END;
