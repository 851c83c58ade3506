"""The producer: one or more devices, each of which sends one temperature reading per period."""

from hourglass.service.signals import handle_sigterm_early

handle_sigterm_early()
