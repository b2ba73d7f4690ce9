-- What is sold: definitions of plans by their versions, so that a subscription stays on its own when the tenant file has
-- changed; and what a tenant sold when a server last began with its file. Reference tables on a cluster.

CREATE TABLE plan_versions (
    tenant     text NOT NULL,
    version    text NOT NULL,
    plan       text NOT NULL,
    definition text NOT NULL,
    kept_at    bigint NOT NULL,
    PRIMARY KEY (tenant, version)
);

CREATE TABLE offers (
    tenant  text PRIMARY KEY,
    offer   text NOT NULL,
    kept_at bigint NOT NULL
);

GRANT SELECT, INSERT ON plan_versions, offers TO farthing_writer;
GRANT UPDATE (offer, kept_at) ON offers TO farthing_writer;

-- No surface reads these.
ALTER TABLE plan_versions ENABLE ROW LEVEL SECURITY;
CREATE POLICY writer ON plan_versions TO farthing_writer USING (true) WITH CHECK (true);
ALTER TABLE offers ENABLE ROW LEVEL SECURITY;
CREATE POLICY writer ON offers TO farthing_writer USING (true) WITH CHECK (true);
