-- Billing: subscriptions and invoices, each one document; the columns beside it are what it is looked for by.

CREATE TABLE subscriptions (
    shard_key    int    NOT NULL,
    id           uuid   NOT NULL,
    customer_id  uuid   NOT NULL,
    tenant       text   NOT NULL,
    state        text   NOT NULL,
    reference    text,
    subscription text   NOT NULL,
    started_at   bigint NOT NULL,
    PRIMARY KEY (shard_key, id)
);
CREATE INDEX subscriptions_of_customer ON subscriptions (shard_key, customer_id, started_at) WHERE customer_id IS NOT NULL;
-- By what the provider calls it: a webhook names nothing else.
CREATE INDEX subscriptions_of_reference ON subscriptions (reference, tenant) WHERE reference IS NOT NULL;

-- What an invoice says never changes; how it stands does.
CREATE TABLE invoices (
    shard_key   int    NOT NULL,
    id          uuid   NOT NULL,
    customer_id uuid   NOT NULL,
    tenant      text   NOT NULL,
    number      bigint NOT NULL,
    invoice     text   NOT NULL,
    state       text   NOT NULL,
    standing    text   NOT NULL,
    created_at  bigint NOT NULL,
    PRIMARY KEY (shard_key, id)
);
CREATE INDEX invoices_of_customer ON invoices (shard_key, customer_id, number) WHERE customer_id IS NOT NULL;
-- For an operator's lists: of a tenant, and of those in one state.
CREATE INDEX invoices_of_tenant ON invoices (tenant, number) WHERE number IS NOT NULL;
CREATE INDEX invoices_of_state ON invoices (tenant, state, number) WHERE number IS NOT NULL;

CREATE TABLE credit_notes (
    shard_key   int    NOT NULL,
    id          uuid   NOT NULL,
    customer_id uuid   NOT NULL,
    tenant      text   NOT NULL,
    invoice_id  uuid   NOT NULL,
    credit_note text   NOT NULL,
    created_at  bigint NOT NULL,
    PRIMARY KEY (shard_key, id)
);
CREATE INDEX credit_notes_of_invoice ON credit_notes (shard_key, invoice_id, created_at) WHERE invoice_id IS NOT NULL;

-- The next number of a tenant's invoices. It is taken in the transaction that writes the invoice, so that there are no gaps;
-- a reference table on a cluster.
CREATE TABLE invoice_numbers (
    tenant text   PRIMARY KEY,
    next   bigint NOT NULL
);

-- What all servers of an installation know and nobody else: made once, by whichever needs it first. A reference table on a
-- cluster.
CREATE TABLE secrets (
    name   text  PRIMARY KEY,
    secret bytea NOT NULL
);

-- What next becomes due of a customer by itself, and when.
CREATE TABLE dues (
    shard_key   int    NOT NULL,
    customer_id uuid   NOT NULL,
    tenant      text   NOT NULL,
    due_at      bigint NOT NULL,
    kind        text   NOT NULL,
    PRIMARY KEY (shard_key, customer_id)
);
CREATE INDEX dues_at ON dues (due_at, shard_key, customer_id) WHERE tenant IS NOT NULL;

-- What tenants may want to tell their customers, numbered for each tenant in the order in which it comes to be seen.
CREATE TABLE notices (
    shard_key   int NOT NULL,
    id          uuid NOT NULL,
    customer_id uuid NOT NULL,
    tenant      text NOT NULL,
    number      bigint NOT NULL,
    kind        text NOT NULL,
    notice      text NOT NULL,
    created_at  bigint NOT NULL,
    PRIMARY KEY (shard_key, id)
);
CREATE INDEX notices_of_customer ON notices (shard_key, customer_id, number) WHERE customer_id IS NOT NULL;
CREATE INDEX notices_of_tenant ON notices (tenant, number) WHERE tenant IS NOT NULL;

-- The next number of a tenant's notices, taken in the transaction that writes them: whoever takes the next one waits until
-- these can be seen.
CREATE TABLE notice_numbers (
    tenant text PRIMARY KEY,
    next   bigint NOT NULL
);

GRANT SELECT ON subscriptions, invoices, credit_notes, notices TO farthing_reader;
GRANT SELECT, INSERT ON subscriptions, invoices, credit_notes, invoice_numbers, dues, notices, notice_numbers TO farthing_writer;
GRANT UPDATE (state, reference, subscription) ON subscriptions TO farthing_writer;
GRANT UPDATE (state, standing) ON invoices TO farthing_writer;
GRANT UPDATE (next) ON invoice_numbers, notice_numbers TO farthing_writer;
GRANT UPDATE (due_at, kind) ON dues TO farthing_writer;
GRANT DELETE ON dues TO farthing_writer;

DO $$
DECLARE
    name text;
BEGIN
    FOREACH name IN ARRAY ARRAY['subscriptions', 'invoices', 'credit_notes', 'notices'] LOOP
        EXECUTE format('ALTER TABLE %I ENABLE ROW LEVEL SECURITY', name);
        EXECUTE format('CREATE POLICY writer ON %I TO farthing_writer USING (true) WITH CHECK (true)', name);
        EXECUTE format(
            'CREATE POLICY reader ON %I FOR SELECT TO farthing_reader USING ('
            '    tenant = NULLIF(current_setting(''farthing.tenant'', true), '''')'
            '    AND customer_id = COALESCE(NULLIF(current_setting(''farthing.customer'', true), '''')::uuid, customer_id))',
            name);
    END LOOP;
    -- No surface reads these.
    FOREACH name IN ARRAY ARRAY['invoice_numbers', 'dues', 'notice_numbers'] LOOP
        EXECUTE format('ALTER TABLE %I ENABLE ROW LEVEL SECURITY', name);
        EXECUTE format('CREATE POLICY writer ON %I TO farthing_writer USING (true) WITH CHECK (true)', name);
    END LOOP;
END $$;
-- Only the owner reads these.
ALTER TABLE secrets ENABLE ROW LEVEL SECURITY;
