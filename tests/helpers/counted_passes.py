"""Shards of `cams` in processes of their own that begin together, with the images that each passes the backbone.

Run as a script with the folder of a tiny chain, a new store, the number of shards, and the MiB for shared features.
It prints a JSON object: `passes` of each shard, `ids` of the artifacts.
"""

import json
import multiprocessing
import sys
from multiprocessing.queues import Queue
from multiprocessing.synchronize import Barrier
from pathlib import Path

from mcis_cli.config import CamsConfig, DataConfig, RunOptions
from mcis_cli.errors import UnfinishedError
from mcis_cli.stages.cams import run as cams
from mcis_cli.stages.cams.features import FeatureCache
from mcis_cli.stages.cams.similarity import Nearest
from mcis_cli.stages.engine.inputs import Inputs
from mcis_cli.store import open_store, segments

CONFIG = CamsConfig(
    precision="fp32", image_size=64, refs=2, reference_choice="nearest", refs_without=2, scales=(1.0,), flip=False
)
SEGMENT_SIZE = 2


def run(chain: Path, store: Path, shard: tuple[int, int] | None, scratch_mb: int) -> str:
    """The id of the maps."""
    classifier = open_store(chain / ".mcis").get("train-cls")
    inputs = Inputs(upstream=classifier, data=DataConfig(root=str(chain / "shapes")))
    options = RunOptions(workers=0, device="cpu", shard=shard, scratch_mb=scratch_mb)
    return cams.run(CONFIG, inputs, open_store(store), options).id


def work(
    chain: Path, store: Path, shard: tuple[int, int], scratch_mb: int, together: Barrier, answers: "Queue[object]"
) -> None:
    """One shard; no shard compares images before all have loaded their network."""
    passes, compute, prepare = [], FeatureCache._compute, Nearest.prepare

    def counted(self, image_id, pixels):
        passes.append(image_id)
        return compute(self, image_id, pixels)

    def prepared(self):
        together.wait()
        prepare(self)
        together.wait()

    FeatureCache._compute, Nearest.prepare = counted, prepared
    try:
        made = run(chain, store, shard, scratch_mb)
    except UnfinishedError:
        made = None
    answers.put((shard[0], passes, made))


def main() -> None:
    """Run the shards."""
    chain, store, count, scratch_mb = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4])
    segments.SEGMENT_SIZE = SEGMENT_SIZE
    open_store(store)
    context = multiprocessing.get_context("fork")
    together, answers = context.Barrier(count), context.Queue()
    processes = [
        context.Process(target=work, args=(chain, store, (number, count), scratch_mb, together, answers))
        for number in range(1, count + 1)
    ]
    for process in processes:
        process.start()
    found = sorted(answers.get() for _ in processes)
    for process in processes:
        process.join()
    ids = [made for _, _, made in found if made is not None]
    sys.stdout.write(json.dumps({"passes": [passes for _, passes, _ in found], "ids": ids}))


if __name__ == "__main__":
    main()
