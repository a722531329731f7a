"""Questions about the chain: which stages are done, which would run, and why."""
