-- The time of tenants in test mode whose clock is held; of all others it is the wall's. A reference table on a cluster.
CREATE TABLE test_clocks (
    tenant text   PRIMARY KEY,
    now    bigint NOT NULL
);

-- No surface reads it: the server knows the time.
ALTER TABLE test_clocks ENABLE ROW LEVEL SECURITY;
