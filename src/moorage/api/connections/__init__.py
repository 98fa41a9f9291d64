"""The API's connections: accepted, limited by address, and passed to the application.

It handles sockets and bytes, not what requests mean.
"""
