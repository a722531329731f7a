"""What other tools wrote, read into the store."""
