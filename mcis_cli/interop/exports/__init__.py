"""Results of the store, written for other tools."""
