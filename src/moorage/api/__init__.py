"""The HTTP surface: one handler module a subject, and the table of routes.

It knows the services and nothing of how they are made; the composition root does.
"""
