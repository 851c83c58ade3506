"""The producer: one or more devices, each giving one temperature reading a period."""
