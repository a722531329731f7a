"""One module for each pipeline command: resolve, reuse, load, compute, seal."""
