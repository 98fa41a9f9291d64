"""Payments in HTTP: how they are presented, advised on and answered."""
