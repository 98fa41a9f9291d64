"""Everything from a price to a credited payment.

It knows chains and the ledger, and nothing about apps.
"""
