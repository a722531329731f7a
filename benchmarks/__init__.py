"""How fast `mcis` is, as ratios measured side by side on the machine that this runs on: `python -m benchmarks`."""
