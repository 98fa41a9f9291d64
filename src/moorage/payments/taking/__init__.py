"""Takes payments: evidence becomes a transfer that is verified, screened, and credited once."""
