"""How a project ends: its export, its deletion, and who orders it."""
