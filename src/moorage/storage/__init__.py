"""Rows: one schema, one thin database, one module of queries a subject.

It alone speaks SQL, and decides nothing.
"""
