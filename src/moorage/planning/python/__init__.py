"""Python apps: what they need installed and by which tool, and what starts them."""
