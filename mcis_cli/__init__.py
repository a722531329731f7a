"""Weakly supervised semantic segmentation: from images with tags to pixel masks.

The package implements "Mining Cross-Image Semantics for Weakly Supervised Semantic Segmentation"
(Sun, Wang, Dai, Van Gool; ECCV 2020). Importing it imports neither torch nor h5py.
"""

__version__ = "0.1.0"
