-- Customers of the portal.

-- `address` is the verified e-mail address in small letters, as it is compared. A deleted person
-- keeps a row without a name.
CREATE TABLE people (
    id            TEXT PRIMARY KEY,
    email         TEXT,
    address       TEXT UNIQUE,
    subject       TEXT UNIQUE,
    state         TEXT NOT NULL,
    language      TEXT NOT NULL,
    terms         TEXT NOT NULL,
    created_at_ms INTEGER NOT NULL,
    decided_at_ms INTEGER
) WITHOUT ROWID;
CREATE INDEX people_by_state ON people (state, created_at_ms);

CREATE TABLE members (
    person_id  TEXT NOT NULL REFERENCES people (id),
    account_id TEXT NOT NULL REFERENCES accounts (id),
    role       TEXT NOT NULL,
    since_ms   INTEGER NOT NULL,
    PRIMARY KEY (person_id, account_id)
) WITHOUT ROWID;
CREATE INDEX members_by_account ON members (account_id);

CREATE TABLE invitations (
    id            TEXT PRIMARY KEY,
    code_hash     BLOB NOT NULL UNIQUE,
    hint          TEXT NOT NULL,
    email         TEXT,
    account_id    TEXT REFERENCES accounts (id),
    role          TEXT NOT NULL,
    credit_nanos  INTEGER,
    created_at_ms INTEGER NOT NULL,
    expires_at_ms INTEGER NOT NULL,
    invited_by    TEXT NOT NULL,
    is_void       INTEGER NOT NULL DEFAULT 0,
    used_at_ms    INTEGER,
    person_id     TEXT REFERENCES people (id)
) WITHOUT ROWID;
CREATE INDEX invitations_by_account ON invitations (account_id) WHERE account_id IS NOT NULL;
CREATE INDEX invitations_by_email ON invitations (email) WHERE email IS NOT NULL;

-- What a start credit was given for, as keyed hashes: they stay when a person is deleted, so that
-- nobody gets a second one by coming again.
CREATE TABLE start_credits (
    claim     BLOB PRIMARY KEY,
    person_id TEXT NOT NULL,
    at_ms     INTEGER NOT NULL
) WITHOUT ROWID;

-- A letter on its way: who has `token` (the browser's) and the code, or the link, has its address.
CREATE TABLE sign_in_letters (
    token_hash    BLOB PRIMARY KEY,
    code_hash     BLOB NOT NULL,
    link_hash     BLOB NOT NULL UNIQUE,
    email         TEXT NOT NULL,
    invitation_id TEXT,
    expires_at_ms INTEGER NOT NULL,
    tries         INTEGER NOT NULL DEFAULT 0,
    used_at_ms    INTEGER
) WITHOUT ROWID;
CREATE INDEX sign_in_letters_by_end ON sign_in_letters (expires_at_ms);

-- `person_id` is missing until the person has accepted the terms.
CREATE TABLE portal_sessions (
    token_hash    BLOB PRIMARY KEY,
    email         TEXT,
    subject       TEXT,
    invitation_id TEXT,
    person_id     TEXT,
    account_id    TEXT,
    began_at_ms   INTEGER NOT NULL,
    seen_at_ms    INTEGER NOT NULL
) WITHOUT ROWID;
CREATE INDEX portal_sessions_by_person ON portal_sessions (person_id);
CREATE INDEX portal_sessions_by_seen ON portal_sessions (seen_at_ms);
