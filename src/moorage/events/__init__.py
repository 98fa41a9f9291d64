"""Events of wallets: recorded, and sent as signed webhooks."""
