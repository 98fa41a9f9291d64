"""The chains that payments arrive on: their description, their nodes, their tokens."""
