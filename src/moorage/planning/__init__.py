"""Makes build plans from uploaded files. Deterministic; reads files, runs nothing."""
