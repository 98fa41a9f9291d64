"""Certificates of the names that are served: wanted, ordered, renewed, given to the proxy."""
