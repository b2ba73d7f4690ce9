-- Analytics: what was booked besides uses by its time, and how subscriptions were.

-- Uses are found by their charges; an index on all entries would cost every charge.
CREATE INDEX entries_besides_uses ON entries (shard_key, customer_id, recorded_at) WHERE kind NOT IN ('charge', 'repricing');

-- How a subscription was from a time on. The subscription itself says only how it is.
CREATE TABLE subscription_changes (
    shard_key       INTEGER NOT NULL,
    customer_id     BLOB    NOT NULL,
    subscription_id BLOB    NOT NULL,
    position        INTEGER NOT NULL,
    changed_at      INTEGER NOT NULL,
    tenant          TEXT    NOT NULL,
    state           TEXT    NOT NULL,
    terms           TEXT    NOT NULL,
    coupon          TEXT,
    PRIMARY KEY (shard_key, customer_id, subscription_id, position)
) STRICT, WITHOUT ROWID;

INSERT INTO sqlite_stat1 (tbl, idx, stat) VALUES
    ('entries', 'entries_besides_uses', '2000000 20000 20 1'),
    ('subscription_changes', 'subscription_changes', '1000000 1000 20 10 1');
