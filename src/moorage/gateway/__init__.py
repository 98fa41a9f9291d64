"""Builds and runs a gateway: makes every service from settings, in the right order.

Only this room chooses concrete classes, and only commands import it.
"""
