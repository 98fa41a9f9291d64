"""Transactions that the gateway itself sends: settlements and refunds, and their follow-up."""
