-- What a call used beside tokens, and by which id its answer is asked for again.
ALTER TABLE calls ADD COLUMN units TEXT;
ALTER TABLE calls ADD COLUMN response_id TEXT;
CREATE INDEX calls_by_response ON calls (response_id) WHERE response_id IS NOT NULL;
