"""Queries over the addresses of apps: names, domains, and their certificates."""
