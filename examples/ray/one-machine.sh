#!/bin/sh
# The chain of mcis.toml on this machine: trainings in the command itself, all else by Ray, a thread for each segment.
set -eu
pip install 'mcis[ray]'
mcis run --engine ray
