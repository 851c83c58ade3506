"""The averages consumer: loads hourly averages from Redis into the warehouse."""

from hourglass.service.early_sigterm import handle_sigterm_early

handle_sigterm_early()
