"""What endpoints share: dispatch, callers, problems, idempotency, payment headers, OpenAPI.

It handles HTTP. The subjects of the contract are in the modules of `moorage.api`.
"""
