"""Where apps are built and run, isolated. `engine.py` is the protocol that services know."""
