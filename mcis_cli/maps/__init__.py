"""Localization maps, pseudo masks, dense CRF and scores: arrays in, arrays out."""
