"""Queries over money: payments, the ledger, quotes, settlements, refunds."""
