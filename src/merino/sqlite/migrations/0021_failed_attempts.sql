-- Attempts that failed, by deployment and hour: also those whose call another deployment answered.
-- Attempts of before are not counted.

CREATE TABLE failed_attempts (
    hour       INTEGER NOT NULL,
    deployment TEXT NOT NULL,
    attempts   INTEGER NOT NULL,
    PRIMARY KEY (hour, deployment)
) WITHOUT ROWID;

CREATE TABLE last_errors (
    deployment TEXT PRIMARY KEY,
    at_ms      INTEGER NOT NULL,
    status     INTEGER NOT NULL,
    outcome    TEXT NOT NULL,
    message    TEXT NOT NULL,
    call_id    TEXT NOT NULL
) WITHOUT ROWID;
