"""A gateway in one file: its database, apps, volumes and keys, saved and put back."""
