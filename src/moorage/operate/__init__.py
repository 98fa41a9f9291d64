"""The operator's commands on a gateway's books and machine, one a module.

The gateway may be running or not: they write the same rows as it does, and never call it.
"""
