"""The database: one schema, connections to it, and one module of queries for each subject.

No other package uses SQL. This one makes no decisions.
"""
