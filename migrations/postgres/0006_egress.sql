-- A tenant's pools of outbound addresses: JSON, shards by name.
ALTER TABLE tenants ADD COLUMN egress TEXT NOT NULL DEFAULT '{}';
