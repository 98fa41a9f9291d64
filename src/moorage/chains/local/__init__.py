"""Chains of this machine alone, for `moorage dev` and tests: a real node, our token contracts."""
