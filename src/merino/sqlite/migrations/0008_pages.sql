-- What pages would otherwise add up anew: entries by day, health checks by hour, breakers' changes.

-- Sums of the entries up to `summed_entry`: of calls by price, and of everything else (price '').
CREATE TABLE entry_sums (
    account_id TEXT NOT NULL,
    day        INTEGER NOT NULL,
    is_usage   INTEGER NOT NULL,
    price_id   TEXT NOT NULL,
    calls      INTEGER NOT NULL,
    nanos      INTEGER NOT NULL,
    PRIMARY KEY (account_id, day, is_usage, price_id)
) WITHOUT ROWID;
INSERT INTO meta VALUES ('summed_entry', 0);

-- Settlements are not in it, so that they pay nothing for it.
CREATE INDEX entries_moved ON entries (account_id, at_ms)
    WHERE kind <> 'settle' AND kind <> 'overrun';

-- Minutes in which every deployment of a model was asked how it is, and those in which none answered.
CREATE TABLE probe_hours (
    alias      TEXT NOT NULL,
    hour       INTEGER NOT NULL,
    probes     INTEGER NOT NULL,
    unanswered INTEGER NOT NULL,
    PRIMARY KEY (alias, hour)
) WITHOUT ROWID;
CREATE INDEX probe_hours_by_time ON probe_hours (hour);

-- `is_edge`: it began or ended a time in which the deployment was left alone.
CREATE TABLE breaker_changes (
    id         INTEGER PRIMARY KEY AUTOINCREMENT,
    at_ms      INTEGER NOT NULL,
    deployment TEXT NOT NULL,
    state      TEXT NOT NULL,
    reason     TEXT NOT NULL,
    is_edge    INTEGER NOT NULL
);
CREATE INDEX breaker_changes_by_deployment ON breaker_changes (deployment, is_edge, id);
CREATE INDEX breaker_changes_by_time ON breaker_changes (at_ms);
