-- The books: customers, charges, ledger entries, grants, holds, operations.
--
-- Every key begins with shard_key, a fixed hash of (tenant, customer) written by the server, so that the same schema can
-- be spread over machines by it. Instants are microseconds since 1970 in UTC, amounts and quantities are micros.

CREATE TABLE customers (
    shard_key   INTEGER    NOT NULL,
    customer_id BLOB   NOT NULL,
    tenant      TEXT   NOT NULL,
    external_id TEXT   NOT NULL,
    status      TEXT   NOT NULL,
    position    INTEGER NOT NULL,
    state       TEXT   NOT NULL,
    created_at  INTEGER NOT NULL,
    PRIMARY KEY (shard_key, customer_id)
) STRICT, WITHOUT ROWID;
CREATE UNIQUE INDEX customers_of_address ON customers (shard_key, tenant, external_id);
CREATE INDEX customers_of_tenant ON customers (tenant, customer_id);

CREATE TABLE profiles (
    shard_key   INTEGER    NOT NULL,
    customer_id BLOB   NOT NULL,
    tenant      TEXT   NOT NULL,
    name        TEXT,
    email       TEXT,
    metadata    TEXT   NOT NULL,
    address     TEXT,
    tax_id      TEXT,
    PRIMARY KEY (shard_key, customer_id)
) STRICT, WITHOUT ROWID;

CREATE TABLE charges (
    shard_key       INTEGER    NOT NULL,
    id              BLOB   NOT NULL,
    customer_id     BLOB   NOT NULL,
    tenant          TEXT   NOT NULL,
    position        INTEGER NOT NULL,
    operation_key   TEXT,
    fingerprint     INTEGER NOT NULL,
    source          TEXT   NOT NULL,
    hold_id         BLOB,
    meter           TEXT   NOT NULL,
    quantity        INTEGER NOT NULL,
    subject         TEXT,
    dimensions      TEXT,
    price           TEXT,
    priced_quantity INTEGER NOT NULL,
    counted_before  INTEGER NOT NULL,
    asset           TEXT   NOT NULL,
    amount          INTEGER NOT NULL,
    owed            INTEGER NOT NULL,
    balance_after   INTEGER NOT NULL,
    occurred_at     INTEGER NOT NULL,
    recorded_at     INTEGER NOT NULL,
    metadata        TEXT,
    billed_with     INTEGER,
    PRIMARY KEY (shard_key, id)
) STRICT, WITHOUT ROWID;
CREATE INDEX charges_of_customer ON charges (shard_key, customer_id, occurred_at);

CREATE TABLE entries (
    shard_key   INTEGER      NOT NULL,
    customer_id BLOB     NOT NULL,
    position    INTEGER   NOT NULL,
    line        INTEGER NOT NULL,
    tenant      TEXT     NOT NULL,
    kind        TEXT     NOT NULL,
    cause_id    BLOB     NOT NULL,
    grant_id    BLOB,
    debit       TEXT     NOT NULL,
    credit      TEXT     NOT NULL,
    asset       TEXT     NOT NULL,
    amount      INTEGER   NOT NULL CHECK (amount > 0),
    recorded_at INTEGER   NOT NULL,
    PRIMARY KEY (shard_key, customer_id, position, line),
    CHECK (debit <> credit)
) STRICT, WITHOUT ROWID;

CREATE TABLE grants (
    shard_key   INTEGER    NOT NULL,
    id          BLOB   NOT NULL,
    customer_id BLOB   NOT NULL,
    tenant      TEXT   NOT NULL,
    position    INTEGER NOT NULL,
    asset       TEXT   NOT NULL,
    kind        TEXT   NOT NULL,
    amount      INTEGER NOT NULL,
    priority    INTEGER    NOT NULL,
    expires_at  INTEGER,
    meters      TEXT   NOT NULL,
    reason      TEXT,
    created_at  INTEGER NOT NULL,
    ended       TEXT,
    PRIMARY KEY (shard_key, id)
) STRICT, WITHOUT ROWID;
CREATE INDEX grants_of_customer ON grants (shard_key, customer_id, position);

CREATE TABLE holds (
    shard_key   INTEGER    NOT NULL,
    id          BLOB   NOT NULL,
    customer_id BLOB   NOT NULL,
    tenant      TEXT   NOT NULL,
    position    INTEGER NOT NULL,
    state       TEXT   NOT NULL,
    hold        TEXT   NOT NULL,
    changed_at  INTEGER NOT NULL,
    PRIMARY KEY (shard_key, id)
) STRICT, WITHOUT ROWID;

-- The first answer to each keyed operation that is not a charge (a charge is its own record).
CREATE TABLE operations (
    shard_key   INTEGER    NOT NULL,
    id          BLOB   NOT NULL,
    customer_id BLOB,
    tenant      TEXT   NOT NULL,
    fingerprint INTEGER NOT NULL,
    answer      TEXT   NOT NULL,
    recorded_at INTEGER NOT NULL,
    PRIMARY KEY (shard_key, id)
) STRICT, WITHOUT ROWID;
CREATE INDEX operations_to_forget ON operations (recorded_at) WHERE customer_id IS NULL;

-- Small shared tables; reference tables on a cluster.
CREATE TABLE prices (
    tenant     TEXT NOT NULL,
    version    TEXT NOT NULL,
    definition TEXT NOT NULL,
    PRIMARY KEY (tenant, version)
) STRICT, WITHOUT ROWID;

CREATE TABLE api_keys (
    id         BLOB   PRIMARY KEY,
    digest     BLOB  NOT NULL UNIQUE,
    tenant     TEXT   NOT NULL,
    name       TEXT   NOT NULL,
    scope      TEXT   NOT NULL,
    preview    TEXT   NOT NULL,
    created_at INTEGER NOT NULL,
    revoked_at INTEGER
) STRICT, WITHOUT ROWID;

CREATE TABLE imports (
    tenant     TEXT   NOT NULL,
    digest     TEXT   NOT NULL,
    lines      INTEGER NOT NULL,
    updated_at INTEGER NOT NULL,
    PRIMARY KEY (tenant, digest)
) STRICT, WITHOUT ROWID;

-- What the planner believes until someone runs ANALYZE: rows in all, then rows for each longer part of the key. It has to
-- know that a bucket holds many rows, or it reads a whole bucket by the first column of a wrong index.
ANALYZE;
DELETE FROM sqlite_stat1;
INSERT INTO sqlite_stat1 (tbl, idx, stat) VALUES
    ('customers', 'customers', '100000 100 1'),
    ('customers', 'customers_of_address', '100000 100 10 1'),
    ('customers', 'customers_of_tenant', '100000 10000 1'),
    ('profiles', 'profiles', '100000 100 1'),
    ('charges', 'charges', '10000000 10000 1'),
    ('charges', 'charges_of_customer', '10000000 10000 100 1'),
    ('entries', 'entries', '20000000 20000 200 2 1'),
    ('grants', 'grants', '1000000 1000 1'),
    ('grants', 'grants_of_customer', '1000000 1000 10 1'),
    ('holds', 'holds', '1000000 1000 1'),
    ('operations', 'operations', '1000000 1000 1');
