-- Saved cards, refunds one by one, notices by more than one way.

-- What refunds and disputes were told of: `refund:`, `refunds:` (the sum of a payment's),
-- `refund_failed:`, `dispute:` and `won:` with the provider's own id.
UPDATE takebacks SET ref = 'refunds:' || substr(ref, 8) WHERE ref LIKE 'refund:%';
UPDATE takebacks SET charge_minor = abs(charge_minor);
ALTER TABLE takebacks DROP COLUMN nanos;

ALTER TABLE topups ADD COLUMN saves_card INTEGER NOT NULL DEFAULT 0;
ALTER TABLE topups ADD COLUMN is_charge INTEGER NOT NULL DEFAULT 0;
ALTER TABLE topups ADD COLUMN failure TEXT;
CREATE INDEX topups_automatic ON topups (account_id, created_at_ms) WHERE is_automatic;
CREATE INDEX topups_open ON topups (created_at_ms) WHERE is_automatic AND status = 'open';

-- What an event waits for, so that only what can go on is looked at again.
ALTER TABLE payment_events ADD COLUMN payment_ref TEXT;
UPDATE payment_events
SET payment_ref = json_extract(CAST(body AS TEXT), '$.data.object.payment_intent')
WHERE outcome = 'waiting' AND json_valid(CAST(body AS TEXT));
DROP INDEX payment_events_open;
CREATE INDEX payment_events_received ON payment_events (received_at_ms) WHERE outcome = 'received';
CREATE INDEX payment_events_waiting ON payment_events (provider, payment_ref)
    WHERE outcome = 'waiting';

-- Cards that may be charged without asking. The provider keeps them; here is only under what.
CREATE TABLE saved_cards (
    account_id       TEXT NOT NULL REFERENCES accounts (id),
    provider         TEXT NOT NULL,
    customer_ref     TEXT NOT NULL,
    saved_at_ms      INTEGER NOT NULL,
    declined_at_ms   INTEGER,
    declined_because TEXT,
    PRIMARY KEY (account_id, provider)
) WITHOUT ROWID;

ALTER TABLE accounts ADD COLUMN notice_email TEXT;

CREATE TABLE notice_deliveries (
    notice_id       TEXT NOT NULL REFERENCES notices (id),
    channel         TEXT NOT NULL,
    attempts        INTEGER NOT NULL,
    next_attempt_ms INTEGER NOT NULL,
    delivered_at_ms INTEGER,
    last_error      TEXT,
    PRIMARY KEY (notice_id, channel)
) WITHOUT ROWID;
INSERT INTO notice_deliveries
SELECT id, 'webhook', attempts, next_attempt_ms, delivered_at_ms, last_error FROM notices
WHERE attempts > 0;
DROP INDEX notices_open;
ALTER TABLE notices DROP COLUMN attempts;
ALTER TABLE notices DROP COLUMN next_attempt_ms;
ALTER TABLE notices DROP COLUMN delivered_at_ms;
ALTER TABLE notices DROP COLUMN last_error;
CREATE INDEX notices_by_time ON notices (created_at_ms);
