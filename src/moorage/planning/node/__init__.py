"""Node apps: how they are installed, which of a monorepo's packages is it, how it is started."""
