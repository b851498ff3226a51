-- How soon and how fast answers came, kept with the sums of calls, and how these times were spread.
-- Calls of before have none: what was never counted is shown as unknown.

ALTER TABLE call_sums ADD COLUMN first_token_calls INTEGER NOT NULL DEFAULT 0;
ALTER TABLE call_sums ADD COLUMN first_token_ms INTEGER NOT NULL DEFAULT 0;
ALTER TABLE call_sums ADD COLUMN generated_tokens INTEGER NOT NULL DEFAULT 0;
ALTER TABLE call_sums ADD COLUMN generating_ms INTEGER NOT NULL DEFAULT 0;

-- level 1: an hour, 2: a day, as in call_sums. A step is a fourth of a doubling.
CREATE TABLE first_token_sums (
    level      INTEGER NOT NULL,
    slot       INTEGER NOT NULL,
    alias      TEXT NOT NULL,
    deployment TEXT NOT NULL,
    streamed   INTEGER NOT NULL,
    step       INTEGER NOT NULL,
    calls      INTEGER NOT NULL,
    PRIMARY KEY (level, slot, alias, deployment, streamed, step)
) WITHOUT ROWID;
