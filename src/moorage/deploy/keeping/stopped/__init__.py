"""What stops an app whose project goes on: owner, operator, a full disk, a newer version."""
