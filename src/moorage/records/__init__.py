"""Rows as frozen records, with their states and the legal transitions. No queries."""
