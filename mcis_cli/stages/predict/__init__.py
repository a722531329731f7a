"""Masks for new photographs."""
