"""Money over HTTP: credits, how they are bought, and payments."""
