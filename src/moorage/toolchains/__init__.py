"""Programs that builds and apps run on: what the machine has, and what its npm registry has."""
