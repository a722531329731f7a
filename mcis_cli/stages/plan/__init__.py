"""Questions about the chain: what is done, what would run, and why."""
