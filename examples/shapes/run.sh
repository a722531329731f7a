#!/bin/sh
# The chain on a synthetic set, step by step; `mcis demo` does the same for three losses and draws a figure.
set -eu
mcis demo demo --quiet > /dev/null
cd demo
mcis status
mcis ls
# One more variant: cached stages are not run again: only the maps and what follows from them are new.
mcis cams --refs 1 | mcis pseudo | mcis eval
