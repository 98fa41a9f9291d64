"""Rows as frozen records, with their states and the legal transitions. No queries.

Clients read the docstrings of some enums: they are descriptions in the OpenAPI document.
"""
