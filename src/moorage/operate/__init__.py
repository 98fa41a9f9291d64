"""An operator's work on a gateway's books and machine, while it runs or not: one command a module.

It writes the same rows as the gateway, and never asks it.
"""
