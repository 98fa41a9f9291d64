"""Queries over what an operator set and did."""
