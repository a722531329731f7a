"""Pseudo masks."""
