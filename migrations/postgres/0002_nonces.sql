-- Challenges that were answered: none is good for a second time.
CREATE TABLE nonces (
    nonce BYTEA PRIMARY KEY,
    -- Seconds since 1970; refused from then on anyway.
    expires BIGINT NOT NULL
);
CREATE INDEX nonces_by_expiry ON nonces (expires);
