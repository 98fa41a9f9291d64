"""What a signature covers, and the hash function that it needs."""
