-- A claim reads the items it takes, a renewal those that are leased, a count none: how many items a
-- batch has finished costs nobody anything.

DROP INDEX batch_items_open;
DROP INDEX batch_items_by_state;
-- Waiting items in the order of a claim: those that were never tried, by number; and by when they are
-- due again those that were.
CREATE INDEX batch_items_waiting ON batch_items (batch_id, not_before_ms, number) WHERE state = 0;
CREATE INDEX batch_items_leased ON batch_items (batch_id, lease_until_ms, worker) WHERE state = 1;

UPDATE batches SET
    completed = (SELECT count(*) FROM batch_items WHERE batch_id = batches.id AND state = 2),
    failed = (SELECT count(*) FROM batch_items WHERE batch_id = batches.id AND state = 3)
WHERE status IN ('validating', 'in_progress', 'finalizing', 'cancelling');
CREATE TRIGGER batch_items_ended AFTER UPDATE OF state ON batch_items
WHEN old.state < 2 AND new.state >= 2
BEGIN
    UPDATE batches SET completed = completed + (new.state = 2), failed = failed + (new.state = 3)
    WHERE id = new.batch_id;
END;
