"""What every endpoint shares: dispatch, callers, problems, idempotency, payment headers, OpenAPI.

It knows HTTP, and no subject of the contract.
"""
