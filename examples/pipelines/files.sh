#!/bin/sh
# Prints one checksum of all files below the folders that mcis.toml names: images, tags, masks, saliency maps.
set -eu

sed -n 's/^root = "\([^"]*\)".*/\1/p' mcis.toml | while read -r root; do
    test -d "$root" || root=$(dirname "$root")
    find -L "$root" -type f -exec cksum {} +
done | sort | cksum
