"""Stages with segments of three images, in worker processes, too: these import this module to find the functions."""

import os
import signal
import time
from pathlib import Path

import numpy as np

from mcis_cli.errors import DataError
from mcis_cli.stages.cams import run as cams
from mcis_cli.stages.engine.by_image import run_segments
from mcis_cli.stages.engine.engines import in_segments
from mcis_cli.stages.evaluate import run as evaluate
from mcis_cli.stages.pseudo import run as pseudo
from mcis_cli.store import Recipe, segments

SIZE = 3
SCHEMA = {"value": ("float32", 1)}
RECIPE = Recipe("cams", 1, {"numbers": True}, {"classifier": "ab" * 32})

if "MCIS_SMALL_SEGMENTS" in os.environ:
    segments.SEGMENT_SIZE = SIZE


@in_segments
def map_images(config, inputs, store, options):
    return cams.run_all.__wrapped__([config], inputs, store, options)[0]


@in_segments
def make_masks(config, inputs, store, options):
    return pseudo.run.__wrapped__(config, inputs, store, options)


@in_segments
def score(config, inputs, store, options):
    return evaluate.run.__wrapped__(config, inputs, store, options)


@in_segments
def write_numbers(config, inputs, store, options):
    """A stage without images: `config` has their count, the seconds of each, and where process ids are noted."""
    if done := store.find(RECIPE):
        return done
    count, pause, notes = config

    def compute(ids):
        with Path(notes).open("a") as file:
            file.write(f"{os.getpid()} {ids[0]}\n")
        for image_id in ids:
            time.sleep(pause)
            yield image_id, {"value": np.full(int(image_id) % 4, int(image_id), dtype=np.float32)}

    ids = [f"{number:05d}" for number in range(count)]
    return run_segments(RECIPE, store, options, schema=SCHEMA, ids=ids, compute=compute, meta=dict)


def kill_this_process(config, inputs, store, options):
    os.kill(os.getpid(), signal.SIGKILL)


def raise_data_error(config, inputs, store, options):
    raise DataError("a.jpg is not an image")
