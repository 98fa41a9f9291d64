"""From a host name to the running app behind it."""
