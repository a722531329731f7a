"""Pairwise affinities, and the random walk of maps over them."""
