#!/bin/sh
# The paper's setting of the LID challenge 2020: 200 classes, image tags alone, no saliency maps.
#
# Published (mean IoU in percent, val / test): 46.2 / 45.1.
#
# Hardware: GPUs (the paper trains its segmentation network on four), and as many cores as there are for the CRFs. Data:
# the challenge's images with tags, and ResNet-38's weights for ImageNet; see mcis.toml.
#
# Expected time: not known. It was never run by the authors of this package, whose machines have neither the data set nor
# a GPU; docs/explanation/results.md tells what was measured instead. The work is 1,309,950 steps of 4 pairs (15 epochs of
# 349,319 images), a pass over these images at four scales and mirrored, two CRFs of each for the sure regions, 349,320
# steps of 8 crops for AffinityNet (8 epochs), a pass for the walk, and 727,800 steps of 48 crops for DeepLab-V3 (100
# epochs). Once something of a stage is done, `mcis run --dry-run` tells what the rest takes.
set -eu
mcis check
mcis run
mcis report
