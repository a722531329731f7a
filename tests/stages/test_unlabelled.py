"""Images that nobody tagged have no maps, no masks and no say in the trainings; negatives have masks of background."""

import numpy as np
import pytest
from tiny_chain import Heard, options

from mcis_cli.errors import DataError
from mcis_cli.interop.imports import maps as foreign_maps
from mcis_cli.stages.affinity import labels
from mcis_cli.stages.affinity.declaration import AFFINITY_LABELS
from mcis_cli.stages.cams import run as cams
from mcis_cli.stages.cams.declaration import CAMS
from mcis_cli.stages.engine.inputs import Inputs
from mcis_cli.stages.evaluate import run as evaluate
from mcis_cli.stages.pseudo import run as pseudo
from mcis_cli.stages.pseudo.declaration import PSEUDO
from mcis_cli.stages.stage import Request
from mcis_cli.stages.train_seg import run as train_seg
from mcis_cli.stages.train_seg.declaration import TRAIN_SEG

NOTE = "left out of the {}: 1 image without a tag (train-0000)"


@pytest.fixture
def chain(chain_copy):
    """The first image is unlabelled, the second a negative."""
    tags = chain_copy.folder / "shapes/image_tags.txt"
    first, second, *others = tags.read_text().splitlines()
    assert [first.split()[0], second.split()[0]] == ["train-0000", "train-0001"]
    tags.write_text("\n".join(["train-0001", *others]) + "\n")
    return chain_copy


def left_out(heard: Heard) -> list[str]:
    """The notes on images that are left out, without those on shares of foreground."""
    return [note for note in heard.notes if note.startswith("left out")]


@pytest.mark.slow
def test_no_stage_learns_from_an_image_that_nobody_tagged(chain):
    labelled = {*chain.images().split("train").ids} - {"train-0000"}
    settings, heard = chain.settings(), Heard()
    given = {"store": chain.store, "options": options(reporter=heard)}
    maps = cams.run(settings.cams, Inputs(upstream=chain.made["train-cls"], data=chain.data), **given)
    assert {*maps.ids} == labelled
    assert heard.notes == [NOTE.format("maps")]
    assert maps.read("train-0001")["maps"].shape[0] == 0
    masks = pseudo.run(settings.pseudo, Inputs(upstream=maps), **given)
    assert {*masks.ids} == labelled
    assert not masks.read("train-0001")["mask"].any()
    regions = labels.run(settings.affinity, Inputs(upstream=maps), **given)
    assert {*regions.ids} == labelled
    assert not regions.read("train-0001")["labels"].any()
    network = train_seg.run(settings.train_seg, Inputs(upstream=masks), **given)
    assert network.manifest["recipe"]["inputs"]["masks"] == masks.id
    assert left_out(heard) == [NOTE.format("maps")]
    asked = {"settings": settings, "data": chain.data, "catalogue": chain.images()}
    for stage, upstream, kind, made in (
        (CAMS, chain.made["train-cls"], "classifier", maps),
        (PSEUDO, maps, "maps", masks),
        (AFFINITY_LABELS, maps, "maps", regions),
        (TRAIN_SEG, masks, "pseudo masks", network),
    ):
        wanted = stage.ask(Request(**asked, upstream=upstream, kind=kind))
        assert made.key in {recipe.key for recipe in wanted.recipes}


def test_masks_of_older_maps_and_of_a_network_leave_it_out_too(chain):
    for stage, config in (("cams", {}), ("train-seg", {"crf": False})):
        heard = Heard()
        inputs = Inputs(upstream=chain.made[stage], data=chain.data)
        masks = pseudo.run(chain.settings(pseudo=config).pseudo, inputs, chain.store, options(reporter=heard))
        assert "train-0000" not in masks.ids
        assert "train-0001" in masks.ids
        assert left_out(heard) == [NOTE.format("pseudo masks")]


def test_imported_maps_are_of_labelled_images_and_scored_on_them(chain, tmp_path):
    images = chain.images().split("train")
    for entry in images.entries:
        maps = {images.class_names[k]: np.ones((4, 6), np.float32) for k in entry.labels}
        if maps:
            np.savez(tmp_path / f"{entry.id}.npz", **maps)
    heard = Heard()
    run = options(reporter=heard)
    made = foreign_maps.run(tmp_path, Inputs(data=chain.data), chain.store, run, split="train")
    assert {*made.ids} == {*images.ids} - {"train-0000"}
    assert heard.notes == [NOTE.format("maps")]
    config = chain.settings(eval={"split": "train"}).eval
    scores = evaluate.run(config, Inputs(upstream=made, data=chain.data), chain.store, run)
    assert {*scores.ids} == {*made.ids}


def test_a_split_that_nobody_tagged_is_refused(chain):
    tags = chain.folder / "shapes/image_tags.txt"
    tags.write_text("".join(f"{line}\n" for line in tags.read_text().splitlines() if line[:4] != "val-"))
    config = chain.settings(cams={"split": "val"}).cams
    with pytest.raises(DataError, match=r"no image of split 'val' in .* has a tag: expected one at least"):
        cams.run(config, Inputs(upstream=chain.made["train-cls"], data=chain.data), chain.store, options())
