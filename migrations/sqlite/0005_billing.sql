-- Billing: subscriptions and invoices, each one document; the columns beside it are what it is looked for by.

CREATE TABLE subscriptions (
    shard_key    INTEGER    NOT NULL,
    id           BLOB   NOT NULL,
    customer_id  BLOB   NOT NULL,
    tenant       TEXT   NOT NULL,
    state        TEXT   NOT NULL,
    reference    TEXT,
    subscription TEXT   NOT NULL,
    started_at   INTEGER NOT NULL,
    PRIMARY KEY (shard_key, id)
) STRICT, WITHOUT ROWID;
CREATE INDEX subscriptions_of_customer ON subscriptions (shard_key, customer_id, started_at);
-- By what the provider calls it: a webhook names nothing else.
CREATE INDEX subscriptions_of_reference ON subscriptions (reference, tenant) WHERE reference IS NOT NULL;

-- What an invoice says never changes; how it stands does.
CREATE TABLE invoices (
    shard_key   INTEGER    NOT NULL,
    id          BLOB   NOT NULL,
    customer_id BLOB   NOT NULL,
    tenant      TEXT   NOT NULL,
    number      INTEGER NOT NULL,
    invoice     TEXT   NOT NULL,
    state       TEXT   NOT NULL,
    standing    TEXT   NOT NULL,
    created_at  INTEGER NOT NULL,
    PRIMARY KEY (shard_key, id)
) STRICT, WITHOUT ROWID;
CREATE INDEX invoices_of_customer ON invoices (shard_key, customer_id, number);
-- For an operator's lists: of a tenant, and of those in one state.
CREATE INDEX invoices_of_tenant ON invoices (tenant, number);
CREATE INDEX invoices_of_state ON invoices (tenant, state, number);

CREATE TABLE credit_notes (
    shard_key   INTEGER    NOT NULL,
    id          BLOB   NOT NULL,
    customer_id BLOB   NOT NULL,
    tenant      TEXT   NOT NULL,
    invoice_id  BLOB   NOT NULL,
    credit_note TEXT   NOT NULL,
    created_at  INTEGER NOT NULL,
    PRIMARY KEY (shard_key, id)
) STRICT, WITHOUT ROWID;
CREATE INDEX credit_notes_of_invoice ON credit_notes (shard_key, invoice_id, created_at);

-- The next number of a tenant's invoices. It is taken in the transaction that writes the invoice, so that there are no gaps.
CREATE TABLE invoice_numbers (
    tenant TEXT   PRIMARY KEY,
    next   INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- What all servers of an installation know and nobody else: made once, by whichever needs it first.
CREATE TABLE secrets (
    name   TEXT  PRIMARY KEY,
    secret BLOB  NOT NULL
) STRICT, WITHOUT ROWID;

-- What next becomes due of a customer by itself, and when.
CREATE TABLE dues (
    shard_key   INTEGER    NOT NULL,
    customer_id BLOB   NOT NULL,
    tenant      TEXT   NOT NULL,
    due_at      INTEGER NOT NULL,
    kind        TEXT   NOT NULL,
    PRIMARY KEY (shard_key, customer_id)
) STRICT, WITHOUT ROWID;
CREATE INDEX dues_at ON dues (due_at, shard_key, customer_id);

-- What tenants may want to tell their customers, numbered for each tenant in the order in which it comes to be seen.
CREATE TABLE notices (
    shard_key   INTEGER NOT NULL,
    id          BLOB NOT NULL,
    customer_id BLOB NOT NULL,
    tenant      TEXT NOT NULL,
    number      INTEGER NOT NULL,
    kind        TEXT NOT NULL,
    notice      TEXT NOT NULL,
    created_at  INTEGER NOT NULL,
    PRIMARY KEY (shard_key, id)
) STRICT, WITHOUT ROWID;
CREATE INDEX notices_of_customer ON notices (shard_key, customer_id, number);
CREATE INDEX notices_of_tenant ON notices (tenant, number);

-- The next number of a tenant's notices, taken in the transaction that writes them: whoever takes the next one waits until
-- these can be seen.
CREATE TABLE notice_numbers (
    tenant TEXT PRIMARY KEY,
    next   INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
