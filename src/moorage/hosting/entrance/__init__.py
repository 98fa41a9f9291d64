"""From a checked request to a queued deployment: price, pay, enter, each in one transaction.

It knows nothing of HTTP: it stores an outcome, which `api` renders.
"""
