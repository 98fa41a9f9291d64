"""What the gateway sends to a chain itself: settlements and refunds, and their follow-up."""
