"""The HTTP API: one module of handlers for each subject, and the table of routes.

It calls the services. `moorage.gateway` makes them.
"""
