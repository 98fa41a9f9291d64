"""Queries over what happens on chains: how far they are searched, and what was sent there."""
