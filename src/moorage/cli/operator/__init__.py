"""The commands of whoever runs a gateway: they start one here, or open its books."""
