"""Figures of images, maps and masks."""
