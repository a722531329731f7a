"""Masks and maps in the formats of other programs: files as their paths and their bytes."""
