"""Fuzzing of the parsers that are our own: `python -m fuzz TARGET`, see docs/how-to/fuzz.md."""
