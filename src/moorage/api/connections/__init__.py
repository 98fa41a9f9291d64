"""The API's connections: accepted, bounded by address, and fed to the application.

It knows sockets and bytes, and nothing of what is asked.
"""
