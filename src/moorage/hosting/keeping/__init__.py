"""What keeps apps as the database says: running, asleep, drained, restarted, deleted."""
