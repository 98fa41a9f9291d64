"""Archives: a project's files, volume and variables as one file, for its owner or its next host."""
