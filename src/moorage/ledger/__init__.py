"""Credits: the double-entry ledger and what running apps burn."""
