"""How payment travels in HTTP's headers: transaction hash, x402 and MPP, read strictly."""
