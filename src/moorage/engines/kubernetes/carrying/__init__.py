"""Volumes that come into a cluster, or leave it: by pods that run a program of Moorage's own."""
