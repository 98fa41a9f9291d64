"""Clients written without the product, as an agent, a wallet or a visitor is."""
