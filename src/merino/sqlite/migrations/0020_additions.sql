-- Deployments and aliases that operators added, beside those of the settings. `terms` is JSON, by the
-- names of the settings file; it holds references to secrets, never a secret.

CREATE TABLE additions (
    kind  TEXT NOT NULL,
    name  TEXT NOT NULL,
    terms TEXT NOT NULL,
    at_ms INTEGER NOT NULL,
    PRIMARY KEY (kind, name)
) WITHOUT ROWID;
