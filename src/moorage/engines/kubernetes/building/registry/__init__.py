"""What lies in the registry: images, what was installed, and the bases that both need."""
