-- The registry.
-- ../postgres holds the same tables.

-- One row. Every transaction that changes something begins with counting the revision up.
CREATE TABLE state (
    one INTEGER PRIMARY KEY CHECK (one = 1),
    revision INTEGER NOT NULL,
    -- Changes up to this revision are forgotten.
    compacted INTEGER NOT NULL,
    -- What challenges are derived from.
    secret BLOB NOT NULL
);

CREATE TABLE tenants (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    name TEXT NOT NULL UNIQUE,
    inner_range TEXT NOT NULL,
    -- The length of an inner prefix.
    length INTEGER NOT NULL,
    -- The first place in the range that nobody has had yet.
    next INTEGER NOT NULL
);

CREATE TABLE shards (
    tenant INTEGER NOT NULL REFERENCES tenants (id),
    shard INTEGER NOT NULL,
    endpoint TEXT,
    public_key BLOB UNIQUE,
    next_key BLOB UNIQUE,
    PRIMARY KEY (tenant, shard)
);

CREATE TABLE gateways (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    name TEXT NOT NULL UNIQUE,
    -- The revision in which its shards last became others.
    epoch INTEGER NOT NULL
);

CREATE TABLE members (
    gateway INTEGER NOT NULL REFERENCES gateways (id) ON DELETE CASCADE,
    tenant INTEGER NOT NULL,
    shard INTEGER NOT NULL,
    PRIMARY KEY (gateway, tenant, shard),
    FOREIGN KEY (tenant, shard) REFERENCES shards (tenant, shard)
);
CREATE INDEX members_by_shard ON members (tenant, shard);

CREATE TABLE hosts (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    name TEXT NOT NULL UNIQUE
);

CREATE TABLE host_keys (
    public_key BLOB PRIMARY KEY,
    host INTEGER NOT NULL REFERENCES hosts (id) ON DELETE CASCADE,
    -- Seconds since 1970; NULL: the host's present key.
    expires INTEGER
);
CREATE INDEX host_keys_by_host ON host_keys (host);
CREATE INDEX host_keys_by_expiry ON host_keys (expires) WHERE expires IS NOT NULL;

CREATE TABLE host_tenants (
    host INTEGER NOT NULL REFERENCES hosts (id) ON DELETE CASCADE,
    tenant INTEGER NOT NULL REFERENCES tenants (id),
    PRIMARY KEY (host, tenant)
);
CREATE INDEX host_tenants_by_tenant ON host_tenants (tenant, host);

-- Who has which place in a tenant's range.
CREATE TABLE prefixes (
    host INTEGER NOT NULL REFERENCES hosts (id) ON DELETE CASCADE,
    tenant INTEGER NOT NULL,
    shard INTEGER NOT NULL,
    place INTEGER NOT NULL,
    PRIMARY KEY (host, tenant, shard),
    UNIQUE (tenant, place),
    FOREIGN KEY (tenant, shard) REFERENCES shards (tenant, shard)
);

-- Places that somebody had: taken again only when the range has no new ones, the longest unused first.
CREATE TABLE free_places (
    tenant INTEGER NOT NULL REFERENCES tenants (id) ON DELETE CASCADE,
    freed INTEGER NOT NULL,
    place INTEGER NOT NULL,
    PRIMARY KEY (tenant, freed, place)
);

CREATE TABLE tokens (
    id TEXT PRIMARY KEY,
    -- SHA-256 of the secret part.
    hash BLOB NOT NULL,
    role TEXT NOT NULL,
    -- 1: all tenants, those to come among them.
    everywhere INTEGER NOT NULL,
    gateway INTEGER REFERENCES gateways (id) ON DELETE CASCADE,
    host INTEGER REFERENCES hosts (id) ON DELETE CASCADE,
    -- Enrolment: the only name that is good for.
    pinned TEXT,
    created INTEGER NOT NULL,
    expires INTEGER,
    -- Enrolment: the host that has used it, by name and key.
    used_by TEXT,
    used_key BLOB
);
CREATE INDEX tokens_by_host ON tokens (host);
CREATE INDEX tokens_by_gateway ON tokens (gateway);
CREATE INDEX tokens_by_expiry ON tokens (expires) WHERE expires IS NOT NULL;
CREATE INDEX tokens_by_user ON tokens (used_by) WHERE used_by IS NOT NULL;

CREATE TABLE token_tenants (
    token TEXT NOT NULL REFERENCES tokens (id) ON DELETE CASCADE,
    tenant INTEGER NOT NULL REFERENCES tenants (id) ON DELETE CASCADE,
    PRIMARY KEY (token, tenant)
);

-- What those who watch are told.
CREATE TABLE changes (
    revision INTEGER NOT NULL,
    part INTEGER NOT NULL,
    kind TEXT NOT NULL,
    -- Whoever may see this tenant is told. No reference: it may be gone.
    tenant INTEGER,
    -- This one is told as well.
    host INTEGER,
    gateway INTEGER,
    body TEXT NOT NULL,
    PRIMARY KEY (revision, part)
);
