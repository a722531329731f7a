#!/bin/sh
# On the first machine `cluster.sh head`, on the others `cluster.sh worker HEAD`, then on one of them `cluster.sh run HEAD`.
# All machines see /shared/photos, which holds images, mcis.toml and .mcis.
set -eu
case ${1:-} in
  head) exec ray start --head --port 6379 --block ;;
  worker) exec ray start --address "$2:6379" --block ;;
  run)
    cd /shared/photos
    export RAY_ADDRESS="$2:6379"
    exec mcis run --engine ray
    ;;
  *) echo "usage: cluster.sh head | worker HEAD | run HEAD" >&2; exit 2 ;;
esac
