"""Projects and their deployments, from an accepted request to an address that answers.

It uses engine and routes through their protocols, and knows nothing of HTTP.
"""
