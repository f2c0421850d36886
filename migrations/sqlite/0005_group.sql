-- A gateway as a node of its group: where it advertises from (null: it is in none), whether it is about to go, the revision in which that, or the
-- shards that it serves, last became others, and the latest such revision of any of the group that it goes by.
ALTER TABLE gateways ADD COLUMN address TEXT;
ALTER TABLE gateways ADD COLUMN leaving INTEGER NOT NULL DEFAULT 0;
ALTER TABLE gateways ADD COLUMN since INTEGER NOT NULL DEFAULT 0;
ALTER TABLE gateways ADD COLUMN heeds INTEGER NOT NULL DEFAULT 0;
