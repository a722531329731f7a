#!/bin/sh
# The paper's first setting: PASCAL VOC 2012, tags alone.
#
# Published (mean IoU in percent, val / test): 63.5 / 63.6 with VGG-16 under the segmentation network, 66.2 / 66.9 with
# ResNet-101. The authors' network starts from weights trained on COCO's masks, this one from ImageNet's: expect a lower
# score. Each score is printed with the initialisation.
#
# Hardware: a GPU, 16 GB of disk for the images and the store. Data: VOC 2012 in VOCdevkit/, its augmented list, tags of
# that list's images, saliency maps; see mcis.toml.
#
# Expected time: unknown. The authors of this package have not run this script, since they do not have the data set;
# docs/explanation/results.md lists what was measured instead. The work is 31,755 steps of 5 pairs (15 epochs of 10,582
# images), a pass over these images, then for each network 16,000 steps of 10 crops and 1,449 images with CRF. To
# estimate the time on your machine from a short training: ./run.sh estimate
set -eu
mcis check
if [ "${1:-}" = estimate ]; then
    masks=$(mcis train-cls --epochs 1 | mcis cams | mcis pseudo)
    mcis train-seg "$masks" --epochs 1 | mcis eval
    exec mcis run --dry-run
fi
mcis run                                        # ResNet-101
mcis run --set train-seg.backbone=vgg16         # the same classifier, maps and masks, cached
if [ -e VOCdevkit/VOC2012/ImageSets/Segmentation/test.txt ]; then
    mcis export --voc-submission --split test --crf -o submission
    tar czf results.tgz -C submission results   # for the evaluation server
fi
