"""How apps in languages with one usual way are built and run."""
