"""What keeps apps as the rows want them: running, asleep, drained, started again, deleted."""
