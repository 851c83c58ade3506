"""The way to Redis: the client, the scripts, the index of partitions."""
