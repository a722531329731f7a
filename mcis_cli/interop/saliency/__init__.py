"""Saliency maps by an existing network."""
