#!/bin/sh
# From 40 photographs and a table of tags to masks that CVAT imports, and a network for new photographs.
set -eu
[ -d mine ] || python draw.py
mcis check mine
mcis train-cls mine --preset best | mcis name classifier
mcis cams classifier | mcis name maps
mcis pseudo maps --background otsu | mcis name masks
mcis export masks --voc -o for-cvat --force
mcis train-seg masks | mcis name network
mcis predict network mine/photos/001.jpg --output predicted --overlay
