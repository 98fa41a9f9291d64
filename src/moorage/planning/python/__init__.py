"""Plans Python apps: what to install, with which tool, and how to start."""
