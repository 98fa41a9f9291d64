"""Gateways as processes, two at once, and the services and peers around them."""
