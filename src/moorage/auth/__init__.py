"""Who is asking: wallet signatures, one-time nonces, rate limits."""
