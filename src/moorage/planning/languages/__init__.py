"""Plans apps in languages that have one common way to build and run them."""
