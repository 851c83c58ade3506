"""One file per version; its name begins with the version."""
