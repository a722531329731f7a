"""A synthetic image set, drawn from a seed: for the demo, the tests and the benchmarks."""
