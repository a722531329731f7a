"""What is in the store, written for other tools."""
