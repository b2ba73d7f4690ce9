-- Collecting: payments, what must happen at the provider, what was asked of it and answered, and what it told.

-- A payment is one document; the columns beside it are what it is looked for by.
CREATE TABLE payments (
    shard_key   INTEGER    NOT NULL,
    id          BLOB   NOT NULL,
    customer_id BLOB   NOT NULL,
    tenant      TEXT   NOT NULL,
    state       TEXT   NOT NULL,
    reference   TEXT,
    payment     TEXT   NOT NULL,
    created_at  INTEGER NOT NULL,
    paid_at     INTEGER,
    refunded_at INTEGER,
    PRIMARY KEY (shard_key, id)
) STRICT, WITHOUT ROWID;
CREATE INDEX payments_of_customer ON payments (shard_key, customer_id, created_at);
-- When money came, and when some of it last went back, for analytics.
CREATE INDEX payments_paid ON payments (shard_key, customer_id, paid_at) WHERE paid_at IS NOT NULL;
CREATE INDEX payments_refunded ON payments (shard_key, customer_id, refunded_at) WHERE refunded_at IS NOT NULL;
-- By what the provider calls it: a webhook names nothing else.
CREATE INDEX payments_of_reference ON payments (reference, tenant) WHERE reference IS NOT NULL;

-- What the provider calls a customer, for webhooks that name nothing else.
CREATE TABLE payers (
    shard_key   INTEGER  NOT NULL,
    customer_id BLOB NOT NULL,
    tenant      TEXT NOT NULL,
    reference   TEXT NOT NULL,
    PRIMARY KEY (shard_key, customer_id)
) STRICT, WITHOUT ROWID;
CREATE INDEX payers_of_reference ON payers (reference, tenant);

-- The outbox. An effect is claimed by moving its due_at on: whoever moved it has it until then.
CREATE TABLE effects (
    shard_key   INTEGER    NOT NULL,
    id          BLOB   NOT NULL,
    customer_id BLOB   NOT NULL,
    tenant      TEXT   NOT NULL,
    effect      TEXT   NOT NULL,
    state       TEXT   NOT NULL,
    due_at      INTEGER NOT NULL,
    attempts    INTEGER    NOT NULL,
    result      TEXT,
    created_at  INTEGER NOT NULL,
    PRIMARY KEY (shard_key, id)
) STRICT, WITHOUT ROWID;
CREATE INDEX effects_due ON effects (due_at, shard_key, id) WHERE state = 'due';

-- Every request to the provider with its raw answer, for whoever has to find out what happened.
CREATE TABLE exchanges (
    shard_key   INTEGER    NOT NULL,
    effect_id   BLOB   NOT NULL,
    number      INTEGER    NOT NULL,
    customer_id BLOB   NOT NULL,
    tenant      TEXT   NOT NULL,
    request     TEXT   NOT NULL,
    status      INTEGER,
    request_id  TEXT,
    replayed    INTEGER    NOT NULL,
    reply       TEXT   NOT NULL,
    at          INTEGER NOT NULL,
    PRIMARY KEY (shard_key, effect_id, number)
) STRICT, WITHOUT ROWID;

CREATE INDEX exchanges_at ON exchanges (at);

-- What providers told, as it came in. The bucket is that of the event's own id: whose it is shows when it is applied.
CREATE TABLE provider_events (
    shard_key   INTEGER    NOT NULL,
    tenant      TEXT   NOT NULL,
    id          TEXT   NOT NULL,
    kind        TEXT   NOT NULL,
    body        TEXT   NOT NULL,
    state       TEXT   NOT NULL,
    due_at      INTEGER NOT NULL,
    attempts    INTEGER    NOT NULL,
    error       TEXT,
    received_at INTEGER NOT NULL,
    PRIMARY KEY (shard_key, tenant, id)
) STRICT, WITHOUT ROWID;
CREATE INDEX provider_events_due ON provider_events (due_at, id) WHERE state = 'due';
CREATE INDEX provider_events_received ON provider_events (received_at, id);

-- Up to when a tenant's provider has been asked what happened.
CREATE TABLE reconciliations (
    tenant     TEXT   PRIMARY KEY,
    until      INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
