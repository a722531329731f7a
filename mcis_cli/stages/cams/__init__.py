"""Localization maps."""
