"""From uploaded files to a build plan. Deterministic; reads files, runs nothing."""
