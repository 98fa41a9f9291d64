"""Disks of apps: sparse images, copies, caches and layers, and what bounds them."""
