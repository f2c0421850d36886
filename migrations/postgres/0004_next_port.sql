-- Where the next key of a shard is answered; null: nowhere yet.
ALTER TABLE shards ADD COLUMN next_port BIGINT;
