"""Rows in, rows out: what to ask, claim, send, take in, and how each row ends."""
