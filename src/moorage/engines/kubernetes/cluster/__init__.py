"""The cluster as the engine knows it: its client, and copies of what runs there."""
