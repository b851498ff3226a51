-- Groups, caps and notices of accounts; vouchers, top-ups, exchange rates.

ALTER TABLE accounts ADD COLUMN pricing_group TEXT NOT NULL DEFAULT 'standard';
ALTER TABLE accounts ADD COLUMN spend_cap_nanos INTEGER;
ALTER TABLE accounts ADD COLUMN spend_period TEXT NOT NULL DEFAULT 'month';
ALTER TABLE accounts ADD COLUMN notice_below_nanos INTEGER;
ALTER TABLE accounts ADD COLUMN topup_below_nanos INTEGER;
ALTER TABLE accounts ADD COLUMN topup_nanos INTEGER;

-- What made an entry, such as a voucher or a top-up, and the exchange rate it was booked with.
ALTER TABLE entries ADD COLUMN reference TEXT;
ALTER TABLE entries ADD COLUMN exchange TEXT;
CREATE INDEX entries_by_reference ON entries (reference) WHERE reference IS NOT NULL;

-- A code is kept as its hash only. It is used up when `redeemed_at_ms` is set.
CREATE TABLE vouchers (
    id             TEXT PRIMARY KEY,
    code_hash      BLOB NOT NULL UNIQUE,
    hint           TEXT NOT NULL,
    batch          TEXT NOT NULL,
    currency       TEXT NOT NULL,
    value_nanos    INTEGER NOT NULL CHECK (value_nanos > 0),
    created_at_ms  INTEGER NOT NULL,
    expires_at_ms  INTEGER,
    memo           TEXT,
    is_void        INTEGER NOT NULL DEFAULT 0,
    redeemed_at_ms INTEGER,
    account_id     TEXT REFERENCES accounts (id)
) WITHOUT ROWID;
CREATE INDEX vouchers_by_batch ON vouchers (batch);

-- Our order: what an account shall get, and what the provider shall have been paid for it.
CREATE TABLE topups (
    id              TEXT PRIMARY KEY,
    account_id      TEXT NOT NULL REFERENCES accounts (id),
    provider        TEXT NOT NULL,
    amount_nanos    INTEGER NOT NULL CHECK (amount_nanos > 0),
    currency        TEXT NOT NULL,
    charge_minor    INTEGER NOT NULL CHECK (charge_minor > 0),
    charge_currency TEXT NOT NULL,
    exchange        TEXT,
    status          TEXT NOT NULL,
    created_at_ms   INTEGER NOT NULL,
    paid_at_ms      INTEGER,
    checkout_ref    TEXT,
    payment_ref     TEXT,
    url             TEXT,
    memo            TEXT,
    is_automatic    INTEGER NOT NULL DEFAULT 0,
    taken_back_nanos INTEGER NOT NULL DEFAULT 0
) WITHOUT ROWID;
CREATE INDEX topups_by_account ON topups (account_id, created_at_ms);
CREATE INDEX topups_by_checkout ON topups (provider, checkout_ref) WHERE checkout_ref IS NOT NULL;
CREATE INDEX topups_by_payment ON topups (provider, payment_ref) WHERE payment_ref IS NOT NULL;

-- Every signed event once, before anything is done about it.
CREATE TABLE payment_events (
    provider       TEXT NOT NULL,
    event_id       TEXT NOT NULL,
    received_at_ms INTEGER NOT NULL,
    body           BLOB NOT NULL,
    outcome        TEXT NOT NULL,
    detail         TEXT,
    topup_id       TEXT,
    PRIMARY KEY (provider, event_id)
) WITHOUT ROWID;
CREATE INDEX payment_events_open ON payment_events (received_at_ms)
    WHERE outcome IN ('received', 'waiting');

-- What was taken back of a top-up, each refund and dispute by its own id.
CREATE TABLE takebacks (
    provider     TEXT NOT NULL,
    ref          TEXT NOT NULL,
    topup_id     TEXT NOT NULL REFERENCES topups (id),
    charge_minor INTEGER NOT NULL,
    nanos        INTEGER NOT NULL,
    PRIMARY KEY (provider, ref)
) WITHOUT ROWID;

-- One unit of `base` is `rate_micros` millionths of `quote`, from that day (UTC) on.
CREATE TABLE exchange_rates (
    base        TEXT NOT NULL,
    quote       TEXT NOT NULL,
    valid_from  TEXT NOT NULL,
    rate_micros INTEGER NOT NULL CHECK (rate_micros > 0),
    source      TEXT NOT NULL,
    PRIMARY KEY (base, quote, valid_from)
) WITHOUT ROWID;

-- What accounts' owners are told; `occasion` makes the same thing be told once.
CREATE TABLE notices (
    id              TEXT PRIMARY KEY,
    occasion        TEXT NOT NULL UNIQUE,
    account_id      TEXT NOT NULL,
    kind            TEXT NOT NULL,
    created_at_ms   INTEGER NOT NULL,
    body            TEXT NOT NULL,
    attempts        INTEGER NOT NULL DEFAULT 0,
    next_attempt_ms INTEGER NOT NULL,
    delivered_at_ms INTEGER,
    last_error      TEXT
) WITHOUT ROWID;
CREATE INDEX notices_open ON notices (next_attempt_ms) WHERE delivered_at_ms IS NULL;
