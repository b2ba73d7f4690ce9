-- Collecting: payments, what must happen at the provider, what was asked of it and answered, and what it told.
--
-- As in the first migration, some indexes have a condition that always holds, to keep them from statements that would only
-- walk them.

-- A payment is one document; the columns beside it are what it is looked for by.
CREATE TABLE payments (
    shard_key   int    NOT NULL,
    id          uuid   NOT NULL,
    customer_id uuid   NOT NULL,
    tenant      text   NOT NULL,
    state       text   NOT NULL,
    reference   text,
    payment     text   NOT NULL,
    created_at  bigint NOT NULL,
    paid_at     bigint,
    refunded_at bigint,
    PRIMARY KEY (shard_key, id)
);
CREATE INDEX payments_of_customer ON payments (shard_key, customer_id, created_at) WHERE customer_id IS NOT NULL;
-- When money came, and when some of it last went back, for analytics.
CREATE INDEX payments_paid ON payments (shard_key, customer_id, paid_at) WHERE paid_at IS NOT NULL;
CREATE INDEX payments_refunded ON payments (shard_key, customer_id, refunded_at) WHERE refunded_at IS NOT NULL;
-- By what the provider calls it: a webhook names nothing else.
CREATE INDEX payments_of_reference ON payments (reference, tenant) WHERE reference IS NOT NULL;

-- What the provider calls a customer, for webhooks that name nothing else.
CREATE TABLE payers (
    shard_key   int  NOT NULL,
    customer_id uuid NOT NULL,
    tenant      text NOT NULL,
    reference   text NOT NULL,
    PRIMARY KEY (shard_key, customer_id)
);
CREATE INDEX payers_of_reference ON payers (reference, tenant);

-- The outbox. An effect is claimed by moving its due_at on: whoever moved it has it until then.
CREATE TABLE effects (
    shard_key   int    NOT NULL,
    id          uuid   NOT NULL,
    customer_id uuid   NOT NULL,
    tenant      text   NOT NULL,
    effect      text   NOT NULL,
    state       text   NOT NULL,
    due_at      bigint NOT NULL,
    attempts    int    NOT NULL,
    result      text,
    created_at  bigint NOT NULL,
    PRIMARY KEY (shard_key, id)
);
CREATE INDEX effects_due ON effects (due_at, shard_key, id) WHERE state = 'due' AND attempts IS NOT NULL;

-- Every request to the provider with its raw answer, for whoever has to find out what happened.
CREATE TABLE exchanges (
    shard_key   int    NOT NULL,
    effect_id   uuid   NOT NULL,
    number      int    NOT NULL,
    customer_id uuid   NOT NULL,
    tenant      text   NOT NULL,
    request     text   NOT NULL,
    status      int,
    request_id  text,
    replayed    int    NOT NULL,
    reply       text   NOT NULL,
    at          bigint NOT NULL,
    PRIMARY KEY (shard_key, effect_id, number)
);

CREATE INDEX exchanges_at ON exchanges (at);

-- What providers told, as it came in. The bucket is that of the event's own id: whose it is shows when it is applied.
CREATE TABLE provider_events (
    shard_key   int    NOT NULL,
    tenant      text   NOT NULL,
    id          text   NOT NULL,
    kind        text   NOT NULL,
    body        text   NOT NULL,
    state       text   NOT NULL,
    due_at      bigint NOT NULL,
    attempts    int    NOT NULL,
    error       text,
    received_at bigint NOT NULL,
    PRIMARY KEY (shard_key, tenant, id)
);
CREATE INDEX provider_events_due ON provider_events (due_at, id) WHERE state = 'due' AND attempts IS NOT NULL;
CREATE INDEX provider_events_received ON provider_events (received_at, id);

-- Up to when a tenant's provider has been asked what happened; a reference table on a cluster.
CREATE TABLE reconciliations (
    tenant     text   PRIMARY KEY,
    until      bigint NOT NULL
);

GRANT SELECT ON payments, payers, effects, exchanges TO farthing_reader;
GRANT SELECT, INSERT ON payments, payers, effects, exchanges TO farthing_writer;
GRANT UPDATE (state, reference, payment, paid_at, refunded_at) ON payments TO farthing_writer;
GRANT UPDATE (reference) ON payers TO farthing_writer;
GRANT UPDATE (state, result) ON effects TO farthing_writer;
GRANT DELETE ON exchanges TO farthing_writer;

DO $$
DECLARE
    name text;
BEGIN
    FOREACH name IN ARRAY ARRAY['payments', 'payers', 'effects', 'exchanges'] LOOP
        EXECUTE format('ALTER TABLE %I ENABLE ROW LEVEL SECURITY', name);
        EXECUTE format('CREATE POLICY writer ON %I TO farthing_writer USING (true) WITH CHECK (true)', name);
        EXECUTE format(
            'CREATE POLICY reader ON %I FOR SELECT TO farthing_reader USING ('
            '    tenant = NULLIF(current_setting(''farthing.tenant'', true), '''')'
            '    AND customer_id = COALESCE(NULLIF(current_setting(''farthing.customer'', true), '''')::uuid, customer_id))',
            name);
    END LOOP;
END $$;

-- No surface reads what providers told.
ALTER TABLE provider_events ENABLE ROW LEVEL SECURITY;
ALTER TABLE reconciliations ENABLE ROW LEVEL SECURITY;
