"""What `make check` runs besides well-known tools."""
