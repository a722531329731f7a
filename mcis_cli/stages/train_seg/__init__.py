"""The training of the segmentation network."""
