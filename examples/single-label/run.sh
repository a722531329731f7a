#!/bin/sh
# The paper's setting with extra single-label images (§4.2), from images to scores.
#
# Published (mean IoU in percent, val / test): 64.6 / 64.6 with VGG-16 under the segmentation network, 67.1 / 67.2 with
# ResNet-101.
# The authors' network starts from weights for COCO's masks, this one from ImageNet's: less is to be expected of it, and
# the initialisation stands beside each score.
#
# Hardware: a GPU, disk for the images and the store. Data: VOC 2012 in VOCdevkit/, its augmented list, tags of that
# list's images, single-label images in single-label/CLASS/, saliency maps of both; see mcis.toml.
#
# Expected time: not known. It was never run by the authors of this package, whose machines have neither the data nor a
# GPU. With N extra images the work is 15 epochs of (10,582 + N) / 5 steps of 5 pairs, a pass over these images, 16,000
# steps of 10 crops, and 1,449 images with CRF. docs/how-to/single-label-images.md runs it on drawn images.
set -eu
mcis check
mcis run
# What one W_P for all pairs gives instead of three.
mcis train-cls --affinity-weights shared | mcis cams | mcis pseudo | mcis train-seg | mcis eval
