"""What tests share: fixtures, stand-ins, and clients written without the product."""
