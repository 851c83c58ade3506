"""One file for each version, told in its name."""
