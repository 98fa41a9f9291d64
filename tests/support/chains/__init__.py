"""Local chains, payments on them, and nodes that fail."""
