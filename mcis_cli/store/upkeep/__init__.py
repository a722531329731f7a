"""Looking after a store: verify, gc, merge."""
