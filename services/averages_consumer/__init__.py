"""The averages consumer: hourly averages from `temps:averages` into the warehouse."""

from hourglass.early import heed_sigterm

heed_sigterm()
