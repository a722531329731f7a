"""Running any stage: by image or by step, its inputs and networks."""
