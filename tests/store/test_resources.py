"""Memory and file handles do not grow with the number of images, or of artifacts that were looked at."""

import gc
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from run_commands import environment
from sizes import size
from store_makers import IDS, make_store, seal_records

pytestmark = pytest.mark.promise
MIB = 2**20

# The real stage on images of a few pixels, with a cache of features that is full long before the first count.
MAP_IMAGES = """
import json, os, sys
from pathlib import Path
import numpy as np
from PIL import Image
import torch
from mcis_cli.config import CamsConfig, DataConfig, RunOptions
from mcis_cli.models.backbones import build_backbone
from mcis_cli.models.classifier import CoAttentionClassifier
from mcis_cli.stages.cams import run as cams
from mcis_cli.stages.engine.inputs import Inputs, list_images
from mcis_cli.stages.engine.networks import tensors_of
from mcis_cli.store import Recipe, open_store

folder, num_images = Path(sys.argv[1]), int(sys.argv[2])
draw = np.random.default_rng(0)
for number in range(num_images):
    path = folder / "set" / ("cat" if number % 2 else "dog") / f"{number:06d}.png"
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(draw.integers(0, 256, (5, 7, 3), dtype=np.uint8)).save(path)
store = open_store(folder / ".mcis")
images = list_images(DataConfig(root=str(folder / "set")), store)
torch.set_num_threads(1)
torch.manual_seed(0)
description = {
    "backbone": "lite0", "output_stride": 16, "heads": "shared", "affinity_init": "identity", "num_foreground": 2
}
model = CoAttentionClassifier(build_backbone("lite0", output_stride=16), 2, affinity_init="identity")
meta = {
    "dataset": images.id, "split": "all", "class_names": list(images.class_names), "model": description,
    "image_size": 32, "loss": "full", "initialisation": "none",
}
with store.begin(Recipe("train-cls", 1, {}, {})) as partial:
    classifier = partial.seal_tensors(tensors_of(model), meta, {})
del model
samples = []

class Watch:
    count = 0
    def start(self, title, total, done=0, *, images=0): pass
    def note(self, text): pass
    def warn(self, text): pass
    def advance(self, count=1, **facts):
        self.count += count
        if self.count % 100 == 0:
            status = Path("/proc/self/statm").read_text().split()
            memory = int(status[1]) * os.sysconf("SC_PAGESIZE")
            samples.append((self.count, memory, len(os.listdir("/proc/self/fd")), len(os.listdir("/proc/self/task"))))

options = RunOptions(device="cpu", workers=2, cache_mb=1, reporter=Watch())
config = CamsConfig(refs=1, image_size=32, precision="fp32")
made = cams.run(config, Inputs(upstream=classifier), store, options)
assert len(made) == num_images
print(json.dumps(samples))
"""


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="no /proc to count in")
def test_maps_of_more_images_take_no_more_memory_and_file_handles(tmp_path):
    num_images = size(1_000, 50_000)
    done = subprocess.run(
        [sys.executable, "-c", MAP_IMAGES, tmp_path, str(num_images)], capture_output=True, text=True, env=environment()
    )
    assert done.returncode == 0, done.stderr
    samples = json.loads(done.stdout)
    assert [count for count, *_ in samples] == list(range(100, num_images + 1, 100))
    after_500 = samples[4]
    growth = samples[-1][1] - after_500[1]
    assert growth < 16 * MIB, f"{growth / MIB:.1f} MiB more after {num_images} images than after 500: {samples}"
    for place in (2, 3):  # file handles, threads
        assert max(sample[place] for sample in samples[4:]) <= max(sample[place] for sample in samples[:5]), samples


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="no /proc to count in")
def test_artifacts_that_were_looked_at_leave_no_file_handles(tmp_path):
    store = make_store(tmp_path)
    ref, counts = seal_records(store).id, []
    for number in range(size(300, 50_000)):
        artifact = store.get(ref)
        if number % 100 == 0:
            artifact.read(IDS[number // 100 % len(IDS)])
            store.artifacts()
            del artifact
            gc.collect()
            counts.append(len(os.listdir("/proc/self/fd")))
    assert max(counts) == counts[0]
