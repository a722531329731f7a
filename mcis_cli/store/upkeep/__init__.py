"""Maintenance of a store: verify, gc, merge."""
