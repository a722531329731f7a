"""Recipes: what changes a key, and what does not. Nothing here reads a file."""

from dataclasses import replace
from pathlib import Path

import pytest
import recipes

from mcis_cli.config import CamsConfig, EvalConfig, PseudoConfig, TrainClsConfig, TrainSegConfig
from mcis_cli.data.catalogue import Catalogue, ImageEntry
from mcis_cli.stages import chained

ENTRIES = tuple(
    ImageEntry(
        id=f"photo-{number}",
        image=f"{number}.jpg",
        digest=f"{number:064x}",
        height=40,
        width=60,
        labels=(number % 2,),
        splits=frozenset({"train"}),
    )
    for number in range(3)
)
IMAGES = Catalogue(Path("here"), "voc", ("cat", "dog"), ENTRIES)
CRF = {"iterations": 3}


def with_first(**changes):
    """The images with the first of them changed."""
    return replace(IMAGES, entries=(replace(ENTRIES[0], **changes), *ENTRIES[1:]))


WITH_SALIENCY = with_first(saliency="s.png", saliency_digest="5" * 64)
WITH_MASK = with_first(mask="m.png", mask_digest="7" * 64)
OTHER_IMAGE = with_first(digest="9" * 64)
OTHER_LABEL = with_first(labels=(0, 1))


def keys(images):
    """The key of every stage on these images, nothing else changed."""
    return {
        "train-cls": recipes.train_cls(TrainClsConfig(), images, "weights").key,
        "cams": recipes.cams(CamsConfig(), "c" * 64, images, images).key,
        "pseudo": recipes.pseudo(PseudoConfig(), "d" * 64, images).key,
        "pseudo, constant": recipes.pseudo(PseudoConfig(background="constant"), "d" * 64, images).key,
        "train-seg": recipes.train_seg(TrainSegConfig(), "e" * 64, images, "weights").key,
        "eval": recipes.evaluate(EvalConfig(), "f" * 64, images, of_stage="train-seg").key,
    }


def changed(images):
    before, after = keys(IMAGES), keys(images)
    return {stage for stage in before if before[stage] != after[stage]}


def test_saliency_that_comes_later_changes_the_pseudo_masks_alone():
    assert changed(WITH_SALIENCY) == {"pseudo"}


def test_ground_truth_that_comes_later_changes_the_scores_alone():
    assert changed(WITH_MASK) == {"eval"}


def test_another_image_changes_everything():
    assert changed(OTHER_IMAGE) == keys(IMAGES).keys()


def test_another_tag_changes_the_classifier_and_its_maps_and_leaves_the_rest_to_their_ids():
    assert changed(OTHER_LABEL) == {"train-cls", "cams"}


def test_another_folder_or_split_changes_nothing():
    assert not changed(replace(IMAGES, root=Path("elsewhere"), layout="table"))
    assert not changed(with_first(splits=frozenset({"train", "all of them"}), image="renamed.jpg"))


def test_images_to_draw_references_from_count_where_there_are_references():
    others = replace(IMAGES, entries=ENTRIES[1:])

    def key(refs, carriers):
        return recipes.cams(CamsConfig(refs=refs), "c" * 64, IMAGES, carriers).key

    assert key(2, IMAGES) != key(2, others)
    assert key(0, IMAGES) == key(0, others)


@pytest.mark.parametrize("make", [recipes.train_cls, recipes.train_seg])
def test_initial_weights_count_by_their_content_not_by_their_name(make):
    def key(config, weights):
        if make is recipes.train_cls:
            return make(TrainClsConfig(**config), IMAGES, weights).key
        return make(TrainSegConfig(**config), "e" * 64, IMAGES, weights).key

    assert key({"weights": "a.pth"}, "sha256:1") == key({"weights": "b.pth"}, "sha256:1")
    assert key({}, "sha256:1") != key({}, "sha256:2")
    assert key({"seed": 1}, "sha256:1") != key({}, "sha256:1")


@pytest.mark.parametrize("stage", ["train-cls", "cams", "train-seg, full", "eval"])
def test_the_name_of_the_split_counts_since_results_say_it(stage):
    def key(images):
        return {
            **keys(images),
            "train-seg, full": recipes.train_seg(TrainSegConfig(supervision="full"), "e" * 64, images, "weights").key,
        }[stage]

    everything = IMAGES.split("all")
    assert everything.entries == IMAGES.split("train").entries
    assert key(everything) != key(IMAGES.split("train"))
    assert key(IMAGES.split("train")) == key(IMAGES.only(IMAGES.ids, "train"))


@pytest.mark.parametrize(
    ("loss", "setting", "counts"),
    [
        ("basic", {"self_pairs": True}, True),
        ("basic", {"affinity_lr": 0.5, "contrastive_from_epoch": 3, "contrastive_rule": "unshared"}, False),
        ("basic", {"heads": "separate"}, True),
        ("basic", {"affinity_init": "identity"}, True),
        ("co-attention", {"contrastive_from_epoch": 3, "contrastive_rule": "unshared"}, False),
        ("co-attention", {"self_pairs": True}, True),
        ("co-attention", {"affinity_lr": 0.5}, True),
        ("full", {"contrastive_from_epoch": 3}, True),
        ("full", {"contrastive_rule": "unshared"}, True),
    ],
)
def test_settings_of_a_loss_count_where_it_has_that_term(loss, setting, counts):
    def key(**config):
        return recipes.train_cls(TrainClsConfig(loss=loss, **config), IMAGES, "weights").key

    assert (key(**setting) != key()) == counts


def evaluation(of_stage, **config):
    return recipes.evaluate(EvalConfig(**config), "f" * 64, IMAGES, of_stage=of_stage).key


@pytest.mark.parametrize(
    ("of_stage", "setting", "counts"),
    [
        ("train-seg", {"scales": (0.5, 1)}, True),
        ("train-seg", {"flip": True}, True),
        ("train-seg", {"crf": True}, True),
        ("train-seg", {"window": 64}, True),
        ("train-seg", {"precision": "bf16"}, True),
        ("train-seg", {"crf_settings": CRF}, False),
        ("train-seg", {"crf_labels": "present"}, False),
        ("train-seg", {"thresholds": (0.5,)}, False),
        ("train-seg", {"normalization": "max"}, False),
        ("cams", {"thresholds": (0.5,)}, True),
        ("cams", {"normalization": "max"}, True),
        ("cams", {"scales": (0.5, 1), "flip": True, "crf": True, "precision": "bf16"}, False),
        ("pseudo", {"thresholds": (0.5,), "normalization": "max", "flip": True, "crf": True}, False),
    ],
)
def test_settings_of_an_evaluation_count_where_they_have_an_effect(of_stage, setting, counts):
    assert (evaluation(of_stage, **setting) != evaluation(of_stage)) == counts


def test_settings_of_a_crf_count_where_there_is_one():
    assert evaluation("train-seg", crf=True, crf_settings=CRF) != evaluation("train-seg", crf=True)

    def key(**config):
        return recipes.pseudo(PseudoConfig(**config), "d" * 64, IMAGES).key

    assert key(crf_confidence=0.6, crf_settings=CRF) == key()
    assert key(crf=True, crf_confidence=0.6) != key(crf=True)


def test_every_stage_has_a_version_and_its_name_in_the_recipe():
    recipe = recipes.dataset(IMAGES)
    assert recipe.stage == "dataset"
    assert recipe.version == recipes.VERSIONS["dataset"]
    assert set(recipes.VERSIONS) == {"dataset", "corrected", *chained()}


@pytest.mark.parametrize(
    ("background", "setting", "counts"),
    [
        ("constant", {"background_score": 0.5}, True),
        ("constant", {"foreground_threshold": 0.5, "background_power": 2}, False),
        ("power", {"background_power": 2}, True),
        ("saliency", {"min_foreground": 0.5}, True),
        ("saliency", {"background_score": 0.5}, False),
    ],
)
def test_thresholds_of_another_background_do_not_count(background, setting, counts):
    def key(**config):
        return recipes.pseudo(PseudoConfig(background=background, **config), "d" * 64, IMAGES).key

    assert (key(**setting) != key()) == counts


def test_settings_of_references_count_where_there_are_references():
    def key(**config):
        return recipes.cams(CamsConfig(**config), "c" * 64, IMAGES, IMAGES).key

    assert key(refs=0, seed=1, with_contrastive=True) == key(refs=0)
    assert key(refs=1, seed=1) != key(refs=1)


def test_iterations_do_not_count_where_epochs_replace_them():
    def key(**config):
        return recipes.train_seg(TrainSegConfig(**config), "e" * 64, IMAGES, "weights").key

    assert key(epochs=2, iterations=5) == key(epochs=2)
    assert key(iterations=5) != key()
