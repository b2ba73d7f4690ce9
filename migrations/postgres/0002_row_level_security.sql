-- Two roles besides the owner. Surfaces read as farthing_reader, which sees one tenant, and where a customer is set, that
-- customer alone; with nothing set it sees nothing. The batch writer is farthing_writer; no surface uses it. It may add
-- to the books but neither change nor delete what stands there, but for the words about people that erasure removes.
--
-- Roles belong to the whole server, not to a database, so another database's migration may have made them.
DO $$
BEGIN
    IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'farthing_reader') THEN
        BEGIN
            CREATE ROLE farthing_reader NOLOGIN;
        EXCEPTION WHEN duplicate_object OR unique_violation THEN NULL;
        END;
    END IF;
    IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'farthing_writer') THEN
        BEGIN
            CREATE ROLE farthing_writer NOLOGIN;
        EXCEPTION WHEN duplicate_object OR unique_violation THEN NULL;
        END;
    END IF;
    IF NOT pg_has_role(current_user, 'farthing_reader', 'MEMBER') OR NOT pg_has_role(current_user, 'farthing_writer', 'MEMBER') THEN
        EXECUTE format('GRANT farthing_reader, farthing_writer TO %I', current_user);
    END IF;
END $$;

DO $$
BEGIN
    EXECUTE format('GRANT USAGE ON SCHEMA %I TO farthing_reader, farthing_writer', current_schema());
END $$;

GRANT SELECT ON customers, profiles, charges, entries, grants, holds, operations, prices TO farthing_reader;

GRANT SELECT, INSERT ON customers, profiles, charges, entries, grants, holds, operations, prices TO farthing_writer;
GRANT UPDATE (external_id, status, position, state) ON customers TO farthing_writer;
GRANT UPDATE (name, email, metadata, address, tax_id) ON profiles TO farthing_writer;
GRANT UPDATE (operation_key, subject, dimensions, metadata) ON charges TO farthing_writer;
GRANT UPDATE (reason, ended) ON grants TO farthing_writer;
GRANT UPDATE (position, state, hold, changed_at) ON holds TO farthing_writer;
GRANT UPDATE (answer) ON operations TO farthing_writer;
GRANT DELETE ON holds TO farthing_writer;

DO $$
DECLARE
    name text;
BEGIN
    FOREACH name IN ARRAY ARRAY['customers', 'profiles', 'charges', 'entries', 'grants', 'holds', 'operations'] LOOP
        EXECUTE format('ALTER TABLE %I ENABLE ROW LEVEL SECURITY', name);
        EXECUTE format('CREATE POLICY writer ON %I TO farthing_writer USING (true) WITH CHECK (true)', name);
        EXECUTE format(
            'CREATE POLICY reader ON %I FOR SELECT TO farthing_reader USING ('
            '    tenant = NULLIF(current_setting(''farthing.tenant'', true), '''')'
            '    AND customer_id = COALESCE(NULLIF(current_setting(''farthing.customer'', true), '''')::uuid, customer_id))',
            name);
    END LOOP;
END $$;

ALTER TABLE prices ENABLE ROW LEVEL SECURITY;
CREATE POLICY writer ON prices TO farthing_writer USING (true) WITH CHECK (true);
CREATE POLICY reader ON prices FOR SELECT TO farthing_reader
    USING (tenant = NULLIF(current_setting('farthing.tenant', true), ''));
