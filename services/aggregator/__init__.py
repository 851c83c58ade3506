"""The aggregator: raw readings in, one average per hour out, exactly once."""

from hourglass.service.signals import handle_sigterm_early

handle_sigterm_early()
