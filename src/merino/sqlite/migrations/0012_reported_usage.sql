-- What an upstream said a call used, where that is not what was billed.
ALTER TABLE calls ADD COLUMN reported_usage TEXT;
