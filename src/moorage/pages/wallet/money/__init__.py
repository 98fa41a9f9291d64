"""The pages of a wallet's money: top up, the ledger, payments and their receipts."""
