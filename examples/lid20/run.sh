#!/bin/sh
# The paper's setting of the LID challenge 2020: 200 classes, image tags alone, no saliency maps.
#
# Published (mean IoU in percent, val / test): 46.2 / 45.1.
#
# Hardware: GPUs (the paper trains its segmentation network on four), and many processor cores for the CRFs. Data: the
# challenge's images with tags, and ResNet-38's weights for ImageNet; see mcis.toml.
#
# Expected time: unknown. The authors of this package have not run this script, since they have neither the data set nor
# enough GPUs; docs/explanation/results.md lists what was measured instead. The work is 1,309,950 steps of 4 pairs (15
# epochs of 349,319 images), a pass over these images at four scales and mirrored, two CRFs of each for the sure regions,
# 349,320 steps of 8 crops for AffinityNet (8 epochs), a pass for the walk, and 727,800 steps of 48 crops for DeepLab-V3
# (100 epochs). Once part of a stage is done, `mcis run --dry-run` estimates the time of the rest.
set -eu
mcis check
mcis run
mcis report
