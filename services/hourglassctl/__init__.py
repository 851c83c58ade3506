"""What runs beside the services: embedded Redis, demo, status, audit, bench and drill."""
