"""What the pipeline looks like from outside: stream statistics, status, metrics of streams."""
