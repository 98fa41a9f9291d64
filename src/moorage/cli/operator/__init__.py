"""The commands of a gateway's operator: they start one here, or open its books."""
