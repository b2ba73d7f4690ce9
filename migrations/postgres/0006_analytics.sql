-- Analytics: what was booked besides uses by its time, and how subscriptions were.

-- Uses are found by their charges; an index on all entries would cost every charge.
CREATE INDEX entries_besides_uses ON entries (shard_key, customer_id, recorded_at) WHERE kind NOT IN ('charge', 'repricing');

-- How a subscription was from a time on. The subscription itself says only how it is.
CREATE TABLE subscription_changes (
    shard_key       int    NOT NULL,
    customer_id     uuid   NOT NULL,
    subscription_id uuid   NOT NULL,
    position        bigint NOT NULL,
    changed_at      bigint NOT NULL,
    tenant          text   NOT NULL,
    state           text   NOT NULL,
    terms           text   NOT NULL,
    coupon          text,
    PRIMARY KEY (shard_key, customer_id, subscription_id, position)
);

GRANT SELECT ON subscription_changes TO farthing_reader;
GRANT SELECT, INSERT ON subscription_changes TO farthing_writer;

ALTER TABLE subscription_changes ENABLE ROW LEVEL SECURITY;
CREATE POLICY writer ON subscription_changes TO farthing_writer USING (true) WITH CHECK (true);
CREATE POLICY reader ON subscription_changes FOR SELECT TO farthing_reader USING (
    tenant = NULLIF(current_setting('farthing.tenant', true), '')
    AND customer_id = COALESCE(NULLIF(current_setting('farthing.customer', true), '')::uuid, customer_id));
