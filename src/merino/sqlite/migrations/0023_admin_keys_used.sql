-- When an admin key was last used, to the minute.

ALTER TABLE admin_keys ADD COLUMN last_used_ms INTEGER;
