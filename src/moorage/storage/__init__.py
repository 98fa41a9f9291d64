"""Rows: one schema, one thin database, one module of queries a subject."""
