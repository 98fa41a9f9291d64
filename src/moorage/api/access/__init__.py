"""Endpoints by which a wallet lets others in: tokens for programs, links for people."""
