"""Where apps are built and run, isolated."""
