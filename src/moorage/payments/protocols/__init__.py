"""Payment in HTTP headers: transaction hash, x402 and MPP, parsed strictly."""
