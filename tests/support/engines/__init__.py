"""Each engine for a test, the apps that run on it, and what an engine needs around it."""
