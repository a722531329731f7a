#!/bin/sh
# The chain in sh: every command prints its artifact, made now or cached, as the input of the next.
#   DATA=photos ./pipeline.sh
set -eu
test -f mcis.toml || mcis init "${DATA:?names the folder of the images}" --preset best > /dev/null
mcis check --quiet

classifier=$(mcis train-cls)
maps=$(mcis cams "$classifier")
masks=$(mcis pseudo "$maps")
network=$(mcis train-seg "$masks")

# The same in one line. An empty pipe stops the command that reads it, so nothing runs after a stage that failed.
test "$network" = "$(mcis train-cls | mcis cams | mcis pseudo | mcis train-seg)"

mcis name latest "$network" > /dev/null
mkdir -p build
mcis export "$masks" --voc --force --output build/masks
"$(dirname "$0")/scores.sh" "$network" build/scores.json
# The page shows the scores that there are.
mcis report "$network" --output build/report.html
