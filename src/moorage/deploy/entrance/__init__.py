"""From a checked request to a queued deployment: price, payment, room, one transaction."""
