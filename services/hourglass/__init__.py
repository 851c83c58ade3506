"""What the services share: keys, readings, the pipeline clock, the way to Redis, the way to run.

It knows no service; producer, aggregator and averages_consumer build on it and not on one another.
"""
