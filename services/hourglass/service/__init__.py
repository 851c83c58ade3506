"""How a service runs: options, workers, probes, logs, traces."""
