"""Where projects are reached: host names, own domains, certificates."""
