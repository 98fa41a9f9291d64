"""Local chains for `moorage dev` and tests: a real node with our token contracts."""
