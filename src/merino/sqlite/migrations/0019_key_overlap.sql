-- The secret before the last rotation of a key, good until it expires.

ALTER TABLE keys ADD COLUMN old_hash BLOB;
ALTER TABLE keys ADD COLUMN old_hint TEXT;
ALTER TABLE keys ADD COLUMN old_expires_at_ms INTEGER;
