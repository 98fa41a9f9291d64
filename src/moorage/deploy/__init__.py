"""Projects and their deployments, from an accepted request to an address that answers.

It knows engine and routes by their protocols, and nothing of HTTP.
"""
