"""The client library: deploy by paying, over HTTP alone.

Start at `client.Client` for the plain calls and `payer.Payer` for those that pay their 402.
"""
