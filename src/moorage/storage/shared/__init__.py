"""What several gateways share and may lose: used nonces, and counts of requests."""
