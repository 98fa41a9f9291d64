"""Credits: double entry over micro-USD, and what running apps burn.

It knows chains only as numbers in its rows.
"""
