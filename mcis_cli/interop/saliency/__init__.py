"""Saliency maps by a network of others."""
