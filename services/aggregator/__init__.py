"""The aggregator: raw readings in, one average per hour out, exactly once."""

from hourglass.service.early_sigterm import handle_sigterm_early

handle_sigterm_early()
