"""What the pipeline is made of, as values: keys, readings, hours, averages, the clock."""
