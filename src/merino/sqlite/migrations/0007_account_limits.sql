-- Limits of an account's own; NULL: those of the settings count.

ALTER TABLE accounts ADD COLUMN rps         INTEGER;
ALTER TABLE accounts ADD COLUMN rpm         INTEGER;
ALTER TABLE accounts ADD COLUMN tpm         INTEGER;
ALTER TABLE accounts ADD COLUMN concurrency INTEGER;
ALTER TABLE accounts ADD COLUMN weight      REAL;
