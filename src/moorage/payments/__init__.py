"""From a price to a credited payment. The one road to credit is `taking.paywall`.

It knows chains and the ledger, and nothing of apps.
"""
