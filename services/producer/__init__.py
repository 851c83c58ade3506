"""The producer: one or more devices, each giving one temperature reading a period."""

from hourglass.early import heed_sigterm

heed_sigterm()
