"""From a checked request to a queued deployment: price, pay, enter, each in one transaction.

It knows nothing of HTTP: what it decides is stored as an outcome, which `api` renders.
"""
