#!/bin/sh
# Photographs of yours in photos/, their tags in tags.csv (three lines are there to show how it looks).
set -eu
mcis check . --refs 3
classifier=$(mcis train-cls . --preset quick)
masks=$(mcis cams "$classifier" --refs 3 | mcis pseudo --background constant --background-score 0.3)
network=$(mcis train-seg "$masks")
mcis predict "$network" photos --output masks --overlay
