"""The averages consumer: loads hourly averages from Redis into the warehouse."""

from hourglass.service.signals import handle_sigterm_early

handle_sigterm_early()
