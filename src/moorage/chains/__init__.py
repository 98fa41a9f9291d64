"""The chains money arrives on: their description, their nodes, their tokens."""
