"""The client library: it deploys by paying, over HTTP alone.

Start at `client.Client` for plain calls, and at `payer.Payer` for those that pay a 402.
"""
