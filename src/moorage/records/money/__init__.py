"""Rows about money: quotes, payments, and what the gateway itself sends."""
