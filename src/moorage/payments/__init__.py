"""From a price to a credited payment: quotes, evidence, verification."""
