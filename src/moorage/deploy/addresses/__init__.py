"""Where projects are reached: host names, domains of their own, certificates."""
