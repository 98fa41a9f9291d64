"""What an upload holds beside the app: secrets, and code that writes files. It runs nothing."""
