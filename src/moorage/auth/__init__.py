"""Authentication of requests: wallet signatures, one-time nonces, rate limits."""
