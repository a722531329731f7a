#!/bin/sh
# Needs a GPU, the data set, its augmented list, and saliency maps; see mcis.toml. Not run by the authors of this
# package: no machine of theirs has the whole data set. docs/explanation/results.md tells what was measured instead.
set -eu
mcis check
mcis run
