"""Databases with rows, faults and models of what must be in them."""
