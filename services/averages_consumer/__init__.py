"""The averages consumer: hourly averages from `temps:averages` into the warehouse."""
