"""The chain on real photographs, for a few steps: does it run, and is the result plausible.

Looks for a small copy of PASCAL VOC beside the repository; skipped without one.
"""

import json
from pathlib import Path

import pytest
from run_commands import mcis

BESIDE = Path(__file__).parents[3] / "shared/data"
VOC, SALIENCY = BESIDE / "voc-mini", BESIDE / "saliency/u2netp"

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not VOC.is_dir(), reason="the photographs are not beside the repository"),
]


def test_the_chain_runs_on_photographs(tmp_path):
    small = ("--set", "train-cls.image_size=64", "--set", "train-cls.batch_pairs=20", "--epochs", "1")
    given = ("--split", "train_small", "--saliency", str(SALIENCY), "--preset", "quick")
    classifier = mcis("train-cls", str(VOC), *given, *small, cwd=tmp_path).out.strip()
    maps = mcis("cams", classifier, "--refs", "1", "--image-size", "96", cwd=tmp_path).out.strip()
    masks = mcis("pseudo", maps, cwd=tmp_path).out.strip()
    tiny = ("--epochs", "1", "--set", "train-seg.crop=65", "--set", "train-seg.batch_size=20")
    network = mcis("train-seg", masks, *tiny, cwd=tmp_path).out.strip()
    scored = {}
    for artifact in (masks, network):
        answer = json.loads(mcis("eval", artifact, "--json", cwd=tmp_path).out)
        scored[answer["metrics"]["subject"]] = answer["metrics"]
    # Saliency alone finds objects, so even these pseudo masks beat the 3.5 % of background everywhere by far.
    assert scored["pseudo"]["mean_iou"] > 0.25
    assert scored["pseudo"]["num_images"] == 200
    assert scored["train-seg"]["split"] == "val"
    assert 0 < scored["train-seg"]["mean_iou"] < 1
