"""How any stage is run: by image, by step; its inputs, networks and what its records hold."""
