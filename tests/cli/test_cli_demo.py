"""`mcis demo`, on a smaller set and with smaller settings than its own."""

import json

import pytest
from PIL import Image

from mcis_cli.cli.commands import demo

SMALL_TOML = demo.DEMO_TOML + "\n"
for before, after in (
    ("epochs = 6", "epochs = 1"),
    ("192", "64"),
    ("256", "64"),
    ("161", "65"),
    ("epochs = 16", "epochs = 1"),
    ("contrastive_from_epoch = 3", "contrastive_from_epoch = 1"),
):
    assert before in SMALL_TOML
    SMALL_TOML = SMALL_TOML.replace(before, after)


@pytest.mark.slow
def test_the_demo_ends_with_scores_of_all_ways_a_picture_and_a_page(call, tmp_path, monkeypatch):
    monkeypatch.setattr(demo, "DEMO_TOML", SMALL_TOML)
    monkeypatch.setattr(demo, "NUM_DEMO_TRAIN", 16)
    monkeypatch.setattr(demo, "NUM_DEMO_VAL", 4)
    answer = call("demo", "here", "--json", "--workers", "0", cwd=tmp_path)
    assert answer.code == 0, answer.err
    found = json.loads(answer.out)
    assert found["stage"] == "eval"
    assert found["cached"] is False
    scored = {name: list(scores) for name, scores in found["scores"].items()}
    chain = ["cams", "pseudo", "train-seg"]
    assert scored == {
        "basic, no references": chain,
        "basic, 3 references": ["cams"],
        "co-attention, no references": ["cams"],
        "co-attention, 3 references": ["cams"],
        "full, no references": ["cams"],
        "full, 3 references": chain,
    }
    assert all(0 <= score <= 1 for scores in found["scores"].values() for score in scores.values())
    for part in (*scored, "maps", "pseudo masks", "network"):
        assert part in answer.err
    with Image.open(tmp_path / "here/demo.png") as picture:
        assert picture.mode == "RGB"
    page = (tmp_path / "here/report.html").read_text(encoding="utf-8")
    assert page.count('class="card"') > 1
    assert found["id"][:12] in page
    assert (tmp_path / "here/shapes/ImageSets/Segmentation/train.txt").is_file()

    again = json.loads(call("demo", "here", "--json", "--workers", "0", cwd=tmp_path).out)
    assert again["cached"] is True
    assert (again["id"], again["scores"]) == (found["id"], found["scores"])
    # What it leaves is an ordinary workspace.
    assert "images, 6 classes; " in call("init", "shapes", "--force", cwd=tmp_path / "here").err
