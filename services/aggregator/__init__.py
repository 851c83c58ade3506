"""The aggregator: raw readings in, one average per hour out, exactly once."""

from hourglass.early import heed_sigterm

heed_sigterm()
