"""How a stage comes by its images, and what it says where they are others than before."""

import shutil
from dataclasses import replace

import pytest
from tiny_chain import CLASSES, Heard

from mcis_cli.config import DataConfig
from mcis_cli.errors import DataError, MissingError, UsageError
from mcis_cli.stages.engine.inputs import Inputs, images_of, list_images, warn_if_changed
from mcis_cli.store import open_store


def test_a_stage_without_upstream_artifact_is_told_which_to_run():
    with pytest.raises(
        MissingError, match="expected an artifact of train-seg or cams or average; run `mcis train-seg` first"
    ):
        Inputs().expect("network", "maps")


def test_an_artifact_of_another_stage_is_refused(chain):
    inputs = Inputs(upstream=chain.made["pseudo"])
    assert inputs.expect("maps", "pseudo masks") is chain.made["pseudo"]
    with pytest.raises(UsageError, match=r"pseudo-.*\.h5 was made by pseudo: expected an artifact of cams"):
        inputs.expect("maps")


def test_listing_seals_the_data_set_and_remembers_its_place(chain, tmp_path):
    store = open_store(tmp_path / ".mcis")
    catalogue = list_images(chain.data, store)
    (artifact,) = store.artifacts()
    assert artifact.stage == "dataset"
    assert artifact.ids == catalogue.ids
    assert artifact.meta["class_names"] == list(CLASSES)
    assert artifact.meta["splits"] == {"train": 16, "trainval": 22, "val": 6}
    assert store.location(catalogue.id)["root"] == str(chain.folder / "shapes")
    assert list_images(chain.data, store).id == catalogue.id
    assert len(store.artifacts()) == 1


def test_the_images_behind_an_artifact_are_found_again(chain):
    assert images_of(chain.made["cams"], None, chain.store).id == chain.images().id


def test_images_that_nobody_remembers_have_to_be_named(chain, tmp_path):
    store = open_store(tmp_path / ".mcis")
    with pytest.raises(MissingError, match=r"images behind cams-.* are not known in this store.*--data"):
        images_of(chain.made["cams"], None, store)
    assert images_of(chain.made["cams"], chain.data, store).id == chain.images().id


def test_images_of_other_classes_are_refused_before_their_numbers_are_mistaken(chain_copy):
    tags = chain_copy.folder / "shapes/image_tags.txt"
    tags.write_text(tags.read_text().replace("square", "box"))
    names = chain_copy.folder / "shapes/classes.txt"
    names.write_text(names.read_text().replace("square", "box"))
    with pytest.raises(
        DataError,
        match=r"classes of .*shapes are not those of cams-.*: found 3, the first of them 'box' where 'square'",
    ):
        images_of(chain_copy.made["cams"], chain_copy.data, chain_copy.store)
    tags.write_text(tags.read_text().replace("box", "square"))
    data = DataConfig(root=str(chain_copy.folder / "shapes"), classes=(*CLASSES, "box"))
    with pytest.raises(DataError, match=r"found 4, expected the 3 that it was.*data\.classes.*mcis train-cls"):
        images_of(chain_copy.made["cams"], data, chain_copy.store)


def test_changed_tags_are_told(chain):
    images = chain.images().split("train")
    heard = Heard()
    warn_if_changed(chain.made["train-cls"], images, heard)
    assert not heard.warnings
    first, *others = images.entries
    changed = replace(images, entries=(replace(first, labels=()), *others))
    warn_if_changed(chain.made["train-cls"], changed, heard)
    assert heard.warnings == [
        f"images or tags have changed since {chain.made['train-cls'].path.name} was made; run `mcis train-cls` again "
        "to make use of it"
    ]


def test_masks_that_look_at_no_tags_are_told_of_changed_images_alone(chain):
    images, masks, heard = chain.images().split("train"), chain.made["pseudo"], Heard()
    first, *others = images.entries
    warn_if_changed(masks, images, heard)
    warn_if_changed(masks, replace(images, entries=(replace(first, labels=()), *others)), heard)
    assert not heard.warnings
    warn_if_changed(masks, replace(images, entries=tuple(others)), heard)
    assert len(heard.warnings) == 1


def test_a_folder_that_moved_is_the_same_data_set(chain, tmp_path):
    shutil.copytree(chain.folder / "shapes", tmp_path / "moved")
    moved = images_of(chain.made["cams"], DataConfig(root=str(tmp_path / "moved")), open_store(tmp_path / ".mcis"))
    assert moved.id == chain.images().id
