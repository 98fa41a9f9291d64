"""What a gateway keeps between its runs: its directory, its keys, its settings as they were."""
