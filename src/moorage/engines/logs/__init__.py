"""Logs of builds and apps: lines with times, on the host's disk, capped, collected from pipes."""
