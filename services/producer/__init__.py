"""The producer: one or more devices, each of which sends one temperature reading per period."""

from hourglass.early import heed_sigterm

heed_sigterm()
