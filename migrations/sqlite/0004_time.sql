-- The time of tenants in test mode whose clock is held; of all others it is the wall's.
CREATE TABLE test_clocks (
    tenant TEXT    PRIMARY KEY,
    now    INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
