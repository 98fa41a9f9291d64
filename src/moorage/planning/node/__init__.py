"""Plans Node apps: how to install, which package of a monorepo to run, and how to start it."""
