"""Queries over who may look at pages: sessions of browsers, and links that open one."""
