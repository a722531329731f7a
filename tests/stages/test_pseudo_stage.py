"""The stage of the pseudo masks: fusion of what the maps hold, saliency that lacks, and what is ignored."""

from pathlib import Path

import numpy as np
import pytest
from tiny_chain import Heard, done, options

from mcis_cli.config import PseudoConfig
from mcis_cli.errors import DataError, UsageError
from mcis_cli.maps.crf import dense_crf, refine_mask
from mcis_cli.maps.localization import enlarge, normalise
from mcis_cli.maps.pseudo import (
    fuse_constant,
    fuse_power,
    fuse_saliency,
    mask_of_probabilities,
    otsu_threshold,
    salient_background,
    soft_scores,
)
from mcis_cli.stages.engine.inputs import Inputs
from mcis_cli.stages.pseudo import run as pseudo
from mcis_cli.store import open_store

RULES = ("foreground_threshold", "conflict_threshold", "salient_threshold", "confident_threshold", "min_foreground")


def make(chain, *, run=None, store=None, upstream="cams", **config):
    inputs = Inputs(upstream=chain.made[upstream], data=chain.data)
    return pseudo.run(chain.settings(pseudo=config).pseudo, inputs, store or chain.store, run or options())


def maps_of(chain, image_id):
    fields = chain.made["cams"].read(image_id)
    entry = chain.images()[image_id]
    return normalise(enlarge(fields["maps"].astype(np.float32), entry.height, entry.width), "minmax"), entry.labels


def without_saliency(chain, *image_ids):
    for image_id in image_ids:
        Path(chain.folder / f"shapes/saliency/{image_id}.png").unlink()


def test_classes_trust_saliency_as_far_as_their_maps_agree_with_it(chain):
    soft = {"fusion": "soft", "normalization": "minmax", "background_score": 0.35, "sharpness": 6.0}
    heard = Heard()
    soft |= {"trusted_correlation": 0.9, "saliency_weight": 0.5, "saliency_middle": 0.4}
    made = make(chain, run=options(reporter=heard), **soft)
    images, of_class = chain.images(), {}
    for image_id in made.ids:
        maps, labels = maps_of(chain, image_id)
        for plane, index in zip(maps, labels, strict=True):
            leads = np.all(plane >= maps, axis=0)
            if leads.mean() >= 0.01:
                correlation = np.corrcoef(plane[leads], images.read_saliency(image_id)[leads])[0, 1]
                of_class.setdefault(index, []).append(correlation)
    trust = {index: min(1.0, max(0.0, np.mean(found) / 0.9)) for index, found in of_class.items()}
    assert min(trust.values()) < 0.8, "else this shows nothing"
    told = sorted((part, images.class_names[index]) for index, part in trust.items() if part < 1)
    assert heard.notes[-2] == "classes that trust saliency in part: " + ", ".join(
        f"{name} {100 * part:.0f} %" for part, name in told
    )
    num_moved = 0
    for image_id in made.ids[:8]:
        maps, labels = maps_of(chain, image_id)
        saliency = images.read_saliency(image_id)
        # Each class against a background of its own, as odds of the two alone.
        odds = [plane - (0.35 + 0.5 * trust[k] * (0.4 - saliency)) for plane, k in zip(maps, labels, strict=True)]
        inside = np.max(odds, axis=0) > 0
        margin = np.abs(np.max(odds, axis=0)) > 1e-4
        found = made.read(image_id)["mask"] > 0
        np.testing.assert_array_equal(found[margin], inside[margin])
        background = salient_background(saliency, background_score=0.35, weight=0.5, middle=0.4)
        in_full = soft_scores(maps, background, sharpness=6)
        num_moved += int(((in_full.argmax(axis=0) > 0) != inside).sum())
    assert num_moved, "trust makes a difference"


def test_a_class_weight_is_a_factor_on_its_map_alone(chain):
    """Background keeps the score that it has of all maps without weights."""
    soft = {"fusion": "soft", "background": "otsu", "otsu_factor": 0.8, "sharpness": 6.0}
    weights = {0: 1.5, 2: 0.6}
    names = chain.images().class_names
    made = make(chain, **soft, class_weights={names[k]: weight for k, weight in weights.items()})
    num_moved = 0
    for image_id in made.ids:
        maps, labels = maps_of(chain, image_id)
        background = 0.8 * otsu_threshold(maps.max(axis=0))
        scores = np.stack([plane * weights.get(k, 1.0) for plane, k in zip(maps, labels, strict=True)])
        expected = np.where(scores.max(axis=0) > background, np.array(labels)[scores.argmax(axis=0)] + 1, 0)
        close = np.sort(np.concatenate([scores, np.full_like(scores[:1], background)]), axis=0)
        certain = close[-1] - close[-2] > 1e-4
        np.testing.assert_array_equal(made.read(image_id)["mask"][certain], expected[certain])
        num_moved += int(((maps.max(axis=0) > background) != (expected > 0)).sum())
    assert num_moved, "weights make a difference"
    with pytest.raises(UsageError, match="names hexagon: expected classes of the image set, disc"):
        make(chain, **soft, class_weights={"hexagon": 1.5})


def test_masks_have_the_size_of_their_images_and_their_tags_alone(chain):
    artifact = chain.made["pseudo"]
    images = chain.images()
    assert artifact.ids == images.split("train").ids
    assert artifact.meta["background"] == "saliency"
    for image_id, fields in artifact.records():
        entry = images[image_id]
        assert fields["mask"].shape == (entry.height, entry.width)
        assert set(np.unique(fields["mask"]).tolist()) <= {0, 255, *(k + 1 for k in entry.labels)}
        assert fields["classes"].tolist() == list(entry.labels)


def test_masks_are_the_fusion_of_enlarged_and_normalised_maps_with_saliency(chain):
    images, settings = chain.images(), PseudoConfig()
    rules = {name: getattr(settings, name) for name in RULES}
    for image_id in chain.made["pseudo"].ids[:4]:
        expected = fuse_saliency(*maps_of(chain, image_id), images.read_saliency(image_id), **rules)
        np.testing.assert_array_equal(chain.made["pseudo"].read(image_id)["mask"], expected)


def test_masks_without_saliency_are_the_fusion_with_a_constant_or_a_power(chain):
    constant = make(chain, background="constant", background_score=0.35)
    power = make(chain, background="power", background_power=2.0)
    for image_id in constant.ids[:4]:
        maps, labels = maps_of(chain, image_id)
        np.testing.assert_array_equal(
            constant.read(image_id)["mask"], fuse_constant(maps, labels, background_score=0.35)
        )
        np.testing.assert_array_equal(power.read(image_id)["mask"], fuse_power(maps, labels, background_power=2.0))


@pytest.mark.parametrize("fusion", ["hard", "soft"])
def test_each_image_has_the_background_score_of_its_own_highest_map(chain, fusion):
    made = make(chain, background="otsu", otsu_factor=0.8, fusion=fusion)
    levels = set()
    for image_id in made.ids[:4]:
        maps, labels = maps_of(chain, image_id)
        levels.add(level := 0.8 * otsu_threshold(maps.max(axis=0)))
        expected = fuse_constant(maps, labels, background_score=level)
        assert (made.read(image_id)["mask"] != expected).mean() < (0.001 if fusion == "soft" else 1e-9)
    assert len(levels) > 1
    assert made.manifest["recipe"]["config"]["otsu_factor"] == 0.8


def test_a_crf_refines_the_fused_mask_of_the_photograph(chain):
    plain = make(chain, background="constant")
    refined = make(chain, background="constant", crf=True)
    image_id = plain.ids[0]
    expected = refine_mask(
        chain.images().read_image(image_id),
        plain.read(image_id)["mask"],
        confidence=0.7,
        **PseudoConfig().crf_settings.model_dump(),
    )
    np.testing.assert_array_equal(refined.read(image_id)["mask"], expected)


@pytest.mark.parametrize("crf", [False, True])
def test_soft_masks_are_the_probabilities_of_the_scores_after_a_crf_on_them(chain, crf):
    soft = {"fusion": "soft", "background_score": 0.35, "sharpness": 6.0, "min_confidence": 0.55, "crf": crf}
    made = make(chain, saliency_weight=0.5, saliency_middle=0.4, **soft)
    images, seen = chain.images(), set()
    for image_id in made.ids[:4]:
        maps, labels = maps_of(chain, image_id)
        saliency = images.read_saliency(image_id)
        background = salient_background(saliency, background_score=0.35, weight=0.5, middle=0.4)
        probabilities = soft_scores(maps, background, sharpness=6.0)
        if crf:
            terms = PseudoConfig().crf_settings.model_dump()
            probabilities = dense_crf(images.read_image(image_id), probabilities, **terms)
        expected = mask_of_probabilities(probabilities, labels, min_confidence=0.55)
        np.testing.assert_array_equal(made.read(image_id)["mask"], expected)
        seen |= set(np.unique(expected).tolist())
    assert {0, 255} < seen, "something of each kind"


@pytest.mark.parametrize("kind", [{"background": "constant", "background_score": 0.35}, {"background": "power"}])
def test_soft_masks_without_saliency_and_crf_are_the_hard_ones_but_for_near_ties(chain, kind):
    hard, soft = make(chain, **kind), make(chain, fusion="soft", **kind)
    for image_id in hard.ids[:4]:
        assert (hard.read(image_id)["mask"] != soft.read(image_id)["mask"]).mean() < 0.001


def test_a_second_run_finds_the_artifact_and_computes_nothing(chain):
    heard, before = Heard(), done(chain.store, "pseudo")
    again = make(chain, run=options(reporter=heard))
    assert again.path == chain.made["pseudo"].path
    assert not heard.started
    assert done(chain.store, "pseudo") == before


def test_the_number_of_workers_changes_nothing(chain, tmp_path):
    found = {make(chain, store=open_store(tmp_path / str(n)), run=options(workers=n)).id for n in (0, 1, 3)}
    assert found == {chain.made["pseudo"].id}


@pytest.mark.slow
def test_the_number_of_processes_of_the_crf_changes_nothing(chain, tmp_path):
    found = {make(chain, store=open_store(tmp_path / str(n)), run=options(workers=n), crf=True).id for n in (0, 2)}
    assert len(found) == 1


def test_missing_saliency_is_an_error_that_names_the_images_and_the_ways_out(chain_copy):
    without_saliency(chain_copy, "train-0002", "train-0005")
    before = done(chain_copy.store, "pseudo")
    with pytest.raises(
        DataError,
        match=r"saliency missing for 2 of 16 images \(train-0002, train-0005\): .*--background otsu, "
        r"--saliency FOLDER, or --allow-missing-saliency to ignore these images; `mcis saliency` makes maps",
    ):
        make(chain_copy)
    assert done(chain_copy.store, "pseudo") == before
    assert make(chain_copy, background="constant").ids == chain_copy.made["cams"].ids


def test_many_images_without_saliency_are_named_in_part(chain_copy):
    without_saliency(chain_copy, *(f"train-{number:04d}" for number in range(7)))
    with pytest.raises(DataError, match=r"7 of 16 .*\(train-0000, .*, train-0004, …\)"):
        make(chain_copy)


def test_images_without_saliency_are_wholly_ignored_and_named_where_that_is_allowed(chain_copy):
    without_saliency(chain_copy, "train-0002")
    heard = Heard()
    artifact = make(chain_copy, allow_missing_saliency=True, run=options(reporter=heard))
    assert (artifact.read("train-0002")["mask"] == 255).all()
    for image_id in set(artifact.ids) - {"train-0002"}:
        np.testing.assert_array_equal(artifact.read(image_id)["mask"], chain_copy.made["pseudo"].read(image_id)["mask"])
    assert any("masks are ignored as a whole: " in warning and "train-0002" in warning for warning in heard.warnings)
    assert heard.warnings[-1] == "ignored, without a saliency map: 1 image: train-0002"


def test_masks_that_are_wholly_ignored_are_counted_and_named(chain):
    heard = Heard()
    artifact = make(chain, min_foreground=0.999, run=options(reporter=heard))
    assert all((fields["mask"] == 255).all() for _, fields in artifact.records())
    assert heard.warnings == [
        "16 of 16 masks are ignored as a whole: train-0000, train-0001, train-0002, train-0003, train-0004, …"
    ]
    assert artifact.provenance["ignored"]["count"] == 16


def test_what_is_ignored_is_told_again_where_the_masks_are_found_done(chain_copy):
    without_saliency(chain_copy, "train-0002")
    first, second = Heard(), Heard()
    for heard in (first, second):
        make(chain_copy, allow_missing_saliency=True, run=options(reporter=heard))
    assert first.started
    assert not second.started
    assert second.warnings == first.warnings
    assert len(first.warnings) == 2


def test_ignored_masks_of_an_interrupted_command_are_counted_too(chain, monkeypatch):
    """What is counted are the masks that are sealed, whoever made them."""
    monkeypatch.setattr("mcis_cli.store.segments.SEGMENT_SIZE", 4)

    class Stops(Heard):
        def advance(self, count=1, **facts):
            super().advance(count)
            if self.advanced == 10:
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        make(chain, min_foreground=0.998, run=options(reporter=Stops()))
    heard = Heard()
    artifact = make(chain, min_foreground=0.998, run=options(reporter=heard))
    assert heard.started[0][2] == 8
    assert artifact.provenance["ignored"]["count"] == 16


def test_saliency_of_other_content_makes_other_masks(chain_copy):
    images = chain_copy.images()
    saliency = chain_copy.folder / "shapes/saliency"
    (saliency / "train-0002.png").write_bytes((saliency / "train-0003.png").read_bytes())
    assert images.read_saliency("train-0003") is not None
    assert done(chain_copy.store, "pseudo") < (make(chain_copy) and done(chain_copy.store, "pseudo"))


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"background_score": 0.0}, "too large: raise --background-score (now 0), which retrains nothing"),
        ({"background_score": 1.0}, "too small: lower --background-score (now 1)"),
        ({"background": "power", "background_power": 50.0}, "too large: lower --background-power (now 50)"),
    ],
)
def test_masks_that_look_wrong_are_told_with_what_to_change(chain, settings, told):
    heard = Heard()
    made = make(chain, run=options(reporter=heard), **{"background": "constant", **settings})
    pixels = np.concatenate([fields["mask"].ravel() for _, fields in made.records()])
    share = ((pixels > 0) & (pixels < 255)).mean()
    assert made.provenance["shares"]["foreground"] == pytest.approx(share, abs=1e-4)
    assert (share > 0.6) == ("large" in told)
    assert set(made.provenance["shares"]["classes"]) <= set(made.meta["class_names"])
    assert told in heard.notes[-1]
