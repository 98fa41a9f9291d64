"""Money reports, all from the ledger: what was earned, what is owed to customers, and to whom."""
