-- Responses and conversations that the relay keeps. `sealed` is readable only with the folder's own
-- secret, which is not in the database. `size_bytes` counts against what an account may keep.

CREATE TABLE kept_responses (
    account_id      TEXT NOT NULL REFERENCES accounts (id),
    id              TEXT NOT NULL,
    previous_id     TEXT,
    created_at_ms   INTEGER NOT NULL,
    expires_at_ms   INTEGER NOT NULL,
    size_bytes      INTEGER NOT NULL,
    sealed          BLOB NOT NULL,
    PRIMARY KEY (account_id, id)
);
CREATE INDEX kept_responses_by_expiry ON kept_responses (expires_at_ms);

-- Which response an item belongs to, for calls that name items by their ids.
CREATE TABLE kept_item_ids (
    account_id  TEXT NOT NULL,
    item_id     TEXT NOT NULL,
    response_id TEXT NOT NULL,
    PRIMARY KEY (account_id, item_id)
) WITHOUT ROWID;
CREATE INDEX kept_item_ids_by_response ON kept_item_ids (account_id, response_id);

-- `deployment`: the upstream's, which keeps it; NULL: the relay's own.
CREATE TABLE conversations (
    account_id    TEXT NOT NULL REFERENCES accounts (id),
    id            TEXT NOT NULL,
    deployment    TEXT,
    created_at_ms INTEGER NOT NULL,
    expires_at_ms INTEGER NOT NULL,
    size_bytes    INTEGER NOT NULL,
    sealed        BLOB NOT NULL,
    PRIMARY KEY (account_id, id)
);
CREATE INDEX conversations_by_expiry ON conversations (expires_at_ms);
CREATE TABLE conversation_items (
    number          INTEGER PRIMARY KEY,
    account_id      TEXT NOT NULL,
    conversation_id TEXT NOT NULL,
    id              TEXT NOT NULL,
    size_bytes      INTEGER NOT NULL,
    sealed          BLOB NOT NULL,
    FOREIGN KEY (account_id, conversation_id)
        REFERENCES conversations (account_id, id) ON DELETE CASCADE
);
CREATE INDEX conversation_items_of ON conversation_items (account_id, conversation_id, number);

CREATE TABLE kept_bytes (
    account_id TEXT PRIMARY KEY,
    bytes      INTEGER NOT NULL
) WITHOUT ROWID;

CREATE TRIGGER kept_responses_more AFTER INSERT ON kept_responses BEGIN
    INSERT INTO kept_bytes VALUES (new.account_id, new.size_bytes)
        ON CONFLICT DO UPDATE SET bytes = bytes + excluded.bytes;
END;
CREATE TRIGGER kept_responses_less AFTER DELETE ON kept_responses BEGIN
    UPDATE kept_bytes SET bytes = bytes - old.size_bytes WHERE account_id = old.account_id;
    DELETE FROM kept_item_ids WHERE account_id = old.account_id AND response_id = old.id;
END;
CREATE TRIGGER conversation_items_more AFTER INSERT ON conversation_items BEGIN
    INSERT INTO kept_bytes VALUES (new.account_id, new.size_bytes)
        ON CONFLICT DO UPDATE SET bytes = bytes + excluded.bytes;
END;
CREATE TRIGGER conversation_items_less AFTER DELETE ON conversation_items BEGIN
    UPDATE kept_bytes SET bytes = bytes - old.size_bytes WHERE account_id = old.account_id;
END;
