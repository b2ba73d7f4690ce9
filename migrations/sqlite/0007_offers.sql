-- What is sold: definitions of plans by their versions, so that a subscription stays on its own when the tenant file has
-- changed; and what a tenant sold when a server last began with its file. Reference tables on a cluster.

CREATE TABLE plan_versions (
    tenant     TEXT NOT NULL,
    version    TEXT NOT NULL,
    plan       TEXT NOT NULL,
    definition TEXT NOT NULL,
    kept_at    INTEGER NOT NULL,
    PRIMARY KEY (tenant, version)
) STRICT, WITHOUT ROWID;

CREATE TABLE offers (
    tenant  TEXT PRIMARY KEY,
    offer   TEXT NOT NULL,
    kept_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
