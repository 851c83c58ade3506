"""The operator's command, with its subcommands and the embedded Redis Cluster."""
