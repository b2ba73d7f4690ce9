-- The books: customers, charges, ledger entries, grants, holds, operations.
--
-- Every key begins with shard_key, a fixed hash of (tenant, customer) written by the server, so that the same schema can
-- be spread over machines by it. Instants are microseconds since 1970 in UTC, amounts and quantities are micros.
--
-- Some indexes have a condition that always holds. It keeps them from statements that do not name their further columns:
-- PostgreSQL believes every bucket to hold a row at most (`shard_key = ANY(...) AND shard_key = ...`), and would read a
-- whole bucket by the first column of a wrong index rather than one row by all columns of the right one.

CREATE TABLE customers (
    shard_key   int    NOT NULL,
    customer_id uuid   NOT NULL,
    tenant      text   NOT NULL,
    external_id text   NOT NULL,
    status      text   NOT NULL,
    position    bigint NOT NULL,
    state       text   NOT NULL,
    created_at  bigint NOT NULL,
    PRIMARY KEY (shard_key, customer_id)
) WITH (fillfactor = 50);
CREATE UNIQUE INDEX customers_of_address ON customers (shard_key, tenant, external_id) WHERE external_id IS NOT NULL;
-- By which a customer is found; they say nothing that the two keys do not. A hot statement names the buckets of its batch
-- besides the customer, and the server would go down a key once for each bucket to find one customer (a batch of 400 took
-- fifteen times as long); by these it goes down once, and then compares the bucket.
CREATE INDEX customers_of_external_id ON customers (external_id, tenant);
CREATE INDEX customers_of_id ON customers (customer_id);
CREATE INDEX customers_of_tenant ON customers (tenant, customer_id) WHERE tenant IS NOT NULL AND customer_id IS NOT NULL;

CREATE TABLE profiles (
    shard_key   int    NOT NULL,
    customer_id uuid   NOT NULL,
    tenant      text   NOT NULL,
    name        text,
    email       text,
    metadata    text   NOT NULL,
    address     text,
    tax_id      text,
    PRIMARY KEY (shard_key, customer_id)
);

CREATE TABLE charges (
    shard_key       int    NOT NULL,
    id              uuid   NOT NULL,
    customer_id     uuid   NOT NULL,
    tenant          text   NOT NULL,
    position        bigint NOT NULL,
    operation_key   text,
    fingerprint     bigint NOT NULL,
    source          text   NOT NULL,
    hold_id         uuid,
    meter           text   NOT NULL,
    quantity        bigint NOT NULL,
    subject         text,
    dimensions      text,
    price           text,
    priced_quantity bigint NOT NULL,
    counted_before  bigint NOT NULL,
    asset           text   NOT NULL,
    amount          bigint NOT NULL,
    owed            bigint NOT NULL,
    balance_after   bigint NOT NULL,
    occurred_at     bigint NOT NULL,
    recorded_at     bigint NOT NULL,
    metadata        text,
    billed_with     bigint,
    PRIMARY KEY (shard_key, id)
);
CREATE INDEX charges_of_customer ON charges (shard_key, customer_id, occurred_at) WHERE tenant IS NOT NULL;

CREATE TABLE entries (
    shard_key   int      NOT NULL,
    customer_id uuid     NOT NULL,
    position    bigint   NOT NULL,
    line        smallint NOT NULL,
    tenant      text     NOT NULL,
    kind        text     NOT NULL,
    cause_id    uuid     NOT NULL,
    grant_id    uuid,
    debit       text     NOT NULL,
    credit      text     NOT NULL,
    asset       text     NOT NULL,
    amount      bigint   NOT NULL CHECK (amount > 0),
    recorded_at bigint   NOT NULL,
    PRIMARY KEY (shard_key, customer_id, position, line),
    CHECK (debit <> credit)
);

CREATE TABLE grants (
    shard_key   int    NOT NULL,
    id          uuid   NOT NULL,
    customer_id uuid   NOT NULL,
    tenant      text   NOT NULL,
    position    bigint NOT NULL,
    asset       text   NOT NULL,
    kind        text   NOT NULL,
    amount      bigint NOT NULL,
    priority    int    NOT NULL,
    expires_at  bigint,
    meters      text   NOT NULL,
    reason      text,
    created_at  bigint NOT NULL,
    ended       text,
    PRIMARY KEY (shard_key, id)
);
CREATE INDEX grants_of_customer ON grants (shard_key, customer_id, position) WHERE tenant IS NOT NULL;

CREATE TABLE holds (
    shard_key   int    NOT NULL,
    id          uuid   NOT NULL,
    customer_id uuid   NOT NULL,
    tenant      text   NOT NULL,
    position    bigint NOT NULL,
    state       text   NOT NULL,
    hold        text   NOT NULL,
    changed_at  bigint NOT NULL,
    PRIMARY KEY (shard_key, id)
);

-- The first answer to each keyed operation that is not a charge (a charge is its own record).
CREATE TABLE operations (
    shard_key   int    NOT NULL,
    id          uuid   NOT NULL,
    customer_id uuid,
    tenant      text   NOT NULL,
    fingerprint bigint NOT NULL,
    answer      text   NOT NULL,
    recorded_at bigint NOT NULL,
    PRIMARY KEY (shard_key, id)
);
CREATE INDEX operations_to_forget ON operations (recorded_at) WHERE customer_id IS NULL;

-- Small shared tables; reference tables on a cluster.
CREATE TABLE prices (
    tenant     text NOT NULL,
    version    text NOT NULL,
    definition text NOT NULL,
    PRIMARY KEY (tenant, version)
);

CREATE TABLE api_keys (
    id         uuid   PRIMARY KEY,
    digest     bytea  NOT NULL UNIQUE,
    tenant     text   NOT NULL,
    name       text   NOT NULL,
    scope      text   NOT NULL,
    preview    text   NOT NULL,
    created_at bigint NOT NULL,
    revoked_at bigint
);

CREATE TABLE imports (
    tenant     text   NOT NULL,
    digest     text   NOT NULL,
    lines      bigint NOT NULL,
    updated_at bigint NOT NULL,
    PRIMARY KEY (tenant, digest)
);
