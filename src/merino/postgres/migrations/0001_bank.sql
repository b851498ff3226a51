-- What relays that share a bank need of it. Moments are seconds of the bank's clock since 1970.

CREATE TABLE relays (
    id          text PRIMARY KEY,
    epoch       bigint NOT NULL,
    op          bigint NOT NULL,
    applied_seq bigint NOT NULL,
    seen_at     double precision NOT NULL,
    is_buried   boolean NOT NULL DEFAULT false
) WITH (fillfactor = 50);

-- What a key or an account may spend in a window.
CREATE TABLE caps (
    owner      text PRIMARY KEY,
    account_id text NOT NULL,
    nanos      bigint NOT NULL,
    period     text NOT NULL
);

-- A balance with its overdraft, or one window of a cap. `free_nanos` is what no relay has; below
-- zero once calls cost more than was held for them.
CREATE TABLE purses (
    id         text PRIMARY KEY,
    owner      text NOT NULL,
    begins_ms  bigint NOT NULL,
    ends_ms    bigint NOT NULL,
    free_nanos bigint NOT NULL
) WITH (fillfactor = 80);
CREATE INDEX purses_by_owner ON purses (owner);

CREATE TABLE advances (
    purse_id  text NOT NULL REFERENCES purses (id),
    relay_id  text NOT NULL REFERENCES relays (id),
    out_nanos bigint NOT NULL CHECK (out_nanos >= 0),
    PRIMARY KEY (relay_id, purse_id)
) WITH (fillfactor = 50);
CREATE INDEX advances_by_purse ON advances (purse_id);

-- Who waits for an account's money. A place is kept for some seconds after the relay last spoke of it.
CREATE TABLE places (
    account_id text NOT NULL,
    relay_id   text NOT NULL,
    since      double precision NOT NULL,
    until      double precision NOT NULL,
    PRIMARY KEY (account_id, relay_id)
);

-- What was charged, by relay, so that two relays never wait for each other to write it.
CREATE TABLE spends (
    owner    text NOT NULL,
    day      integer NOT NULL,
    relay_id text NOT NULL,
    nanos    bigint NOT NULL,
    PRIMARY KEY (owner, day, relay_id)
) WITH (fillfactor = 50);
