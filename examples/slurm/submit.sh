#!/bin/bash
# The whole chain, each job after the one before.
set -euo pipefail
cd "$(dirname "$0")" && here=$PWD && cd "$OLDPWD"

# send WHEN JOB STAGE: prints the job's number.
send() { sbatch --parsable ${1:+"--dependency=$1"} "$here/$2" "$3"; }

# An array may lose a task: what it leaves, the job after it does.
classifier=$(send "" train.sbatch train-cls)
parts=$(send "afterok:$classifier" parts.sbatch cams)
maps=$(send "afterany:$parts" whole.sbatch cams)
masks=$(send "afterok:$maps" whole.sbatch pseudo)
network=$(send "afterok:$masks" train.sbatch train-seg)
parts=$(send "afterok:$network" parts.sbatch eval)
send "afterany:$parts" whole.sbatch eval
