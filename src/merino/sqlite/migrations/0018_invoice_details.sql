-- Whom invoices are made out to. A change is a new row: an invoice carries what held when it was
-- paid.
CREATE TABLE invoice_details (
    account_id TEXT NOT NULL REFERENCES accounts (id),
    since_ms   INTEGER NOT NULL,
    name       TEXT NOT NULL,
    address    TEXT NOT NULL,
    tax_id     TEXT NOT NULL,
    PRIMARY KEY (account_id, since_ms)
) WITHOUT ROWID;
