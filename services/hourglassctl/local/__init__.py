"""What a command runs on this machine: Redis servers, a Redis Cluster, the services."""
