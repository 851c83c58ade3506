"""The aggregator: raw readings in, one average per hour out, exactly once."""
