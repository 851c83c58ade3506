"""The averages consumer: loads hourly averages from Redis into the warehouse."""

from hourglass.early import heed_sigterm

heed_sigterm()
