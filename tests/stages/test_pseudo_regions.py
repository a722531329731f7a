"""Regions vote on pseudo masks: superpixels, label images, and what Segment Anything writes."""

import json

import numpy as np
import pytest
from PIL import Image
from skimage.segmentation import felzenszwalb, slic
from tiny_chain import options

from mcis_cli.config import SUPERPIXELS, PseudoConfig
from mcis_cli.data.run_lengths import encode_rle
from mcis_cli.errors import DataError, UsageError
from mcis_cli.maps.crf import dense_crf
from mcis_cli.maps.localization import enlarge, normalise
from mcis_cli.maps.pseudo import fuse_saliency, mask_of_probabilities, salient_background, soft_scores
from mcis_cli.stages.engine.inputs import Inputs
from mcis_cli.stages.pseudo import run as pseudo
from mcis_cli.stages.pseudo.regions import SOURCES
from mcis_cli.store import open_store

RULES = ("foreground_threshold", "conflict_threshold", "salient_threshold", "confident_threshold", "min_foreground")
SOFT = {"fusion": "soft", "background_score": 0.35, "sharpness": 6.0, "saliency_weight": 0.5, "saliency_middle": 0.4}


def make(chain, *, upstream="cams", network=None, run=None, store=None, **config):
    inputs = Inputs(upstream=chain.made[upstream], network=network, data=chain.data)
    return pseudo.run(chain.settings(pseudo=config).pseudo, inputs, store or chain.store, run or options())


def averaged(scores, labels):
    """Each plane averaged over each label, by a loop; label 0 keeps its values."""
    result = scores.astype(np.float64)
    for plane in result.reshape(-1, *labels.shape):
        for label in np.unique(labels):
            if label:
                plane[labels == label] = plane[labels == label].mean()
    return result.astype(np.float32)


def maps_of(chain, image_id):
    fields, entry = chain.made["cams"].read(image_id), chain.images()[image_id]
    return normalise(enlarge(fields["maps"].astype(np.float32), entry.height, entry.width), "minmax")


def stripes(entry, width=7):
    """Labels of another tool: diagonal stripes, the first of which is no region."""
    rows, columns = np.indices((entry.height, entry.width))
    return (rows + columns) // width


def write_labels(chain, folder, labels_of=stripes):
    folder.mkdir()
    for entry in chain.images().split("train").entries:
        Image.fromarray(labels_of(entry).astype(np.uint16)).save(folder / f"{entry.id}.png")
    return str(folder)


def write_masks(chain, folder, wrapped=True):
    folder.mkdir()
    for entry in chain.images().split("train").entries:
        labels = stripes(entry)
        records = [{"id": k, "segmentation": encode_rle(labels == k)} for k in range(1, labels.max() + 1)]
        table = {"image": {"file_name": entry.image}, "annotations": records} if wrapped else records
        (folder / f"{entry.id}.json").write_text(json.dumps(table))
    return str(folder)


def same(one, other):
    return all(np.array_equal(fields["mask"], other.read(image_id)["mask"]) for image_id, fields in one.records())


def test_every_name_has_a_source():
    assert set(SOURCES) == set(SUPERPIXELS)


@pytest.mark.parametrize(
    ("settings", "labels_of"),
    [
        ({"regions": "slic"}, lambda image: slic(image, n_segments=300, compactness=10.0, start_label=1)),
        (
            {"regions": "felzenszwalb", "felzenszwalb": {"scales": [100.0]}},
            lambda image: felzenszwalb(image, scale=100.0, sigma=0.8, min_size=20) + 1,
        ),
        ({"regions": "slic", "slic": {"segments": 20}}, lambda image: slic(image, 20, 10.0, start_label=1)),
    ],
)
def test_soft_masks_are_those_of_probabilities_averaged_in_superpixels(chain, settings, labels_of):
    made, plain = make(chain, **SOFT, **settings), make(chain, **SOFT)
    images = chain.images()
    for image_id in made.ids[:4]:
        labels = labels_of(images.read_image(image_id))
        background = salient_background(images.read_saliency(image_id), background_score=0.35, weight=0.5, middle=0.4)
        probabilities = averaged(soft_scores(maps_of(chain, image_id), background, sharpness=6.0), labels)
        expected = mask_of_probabilities(probabilities, images[image_id].labels, min_confidence=0)
        sure = np.sort(probabilities, axis=0)[-1] - np.sort(probabilities, axis=0)[-2] > 1e-5
        np.testing.assert_array_equal(made.read(image_id)["mask"][sure], expected[sure])
    assert not same(made, plain)


def test_the_regions_of_all_scales_vote_together(chain):
    made = make(chain, **SOFT, regions="felzenszwalb", background="constant")
    image_id, images = made.ids[0], chain.images()
    image, background = images.read_image(image_id), np.full(images.read_image(image_id).shape[:2], 0.35, np.float32)
    probabilities = soft_scores(maps_of(chain, image_id), background, sharpness=6.0)
    scales = PseudoConfig().felzenszwalb.scales
    of_scales = [averaged(probabilities, felzenszwalb(image, scale, 0.8, 20) + 1) for scale in scales]
    mean = np.mean(of_scales, axis=0)
    expected = mask_of_probabilities(mean, images[image_id].labels, min_confidence=0)
    sure = np.sort(mean, axis=0)[-1] - np.sort(mean, axis=0)[-2] > 1e-5
    assert len(scales) > 1
    np.testing.assert_array_equal(made.read(image_id)["mask"][sure], expected[sure])


def test_hard_masks_are_the_fusion_of_averaged_maps_and_saliency(chain, tmp_path):
    made = make(chain, regions=write_labels(chain, tmp_path / "labels"))
    images, settings = chain.images(), PseudoConfig()
    for image_id in made.ids[:4]:
        labels = stripes(images[image_id])
        maps, saliency = maps_of(chain, image_id), images.read_saliency(image_id)
        maps, saliency = averaged(maps, labels), averaged(saliency[None], labels)[0]
        rules = {name: getattr(settings, name) for name in RULES}
        expected = fuse_saliency(maps, images[image_id].labels, saliency, **rules)
        assert (made.read(image_id)["mask"] != expected).mean() < 0.01, "but for values at a threshold"


def test_label_images_and_run_lengths_of_the_same_regions_make_the_same_masks(chain, tmp_path):
    labels = make(chain, **SOFT, regions=write_labels(chain, tmp_path / "labels"))
    for wrapped in (True, False):
        masks = make(chain, **SOFT, regions=write_masks(chain, tmp_path / f"masks-{wrapped}", wrapped))
        assert same(labels, masks)
    assert not same(labels, make(chain, **SOFT))


def test_a_network_votes_too_alone_or_beside_maps(chain, tmp_path):
    folder = write_labels(chain, tmp_path / "whole", lambda entry: np.ones((entry.height, entry.width), int))
    alone = make(chain, upstream="train-seg", regions=folder)
    beside = make(chain, network=chain.made["train-seg"], regions=folder, **SOFT)
    for _, fields in [*alone.records(), *beside.records()]:
        assert len(np.unique(fields["mask"])) == 1, "the region is the whole image"


@pytest.mark.slow
def test_regions_vote_on_the_probabilities_of_the_crf_in_processes_as_inline(chain, tmp_path):
    config = {**SOFT, "background": "constant", "crf": True, "regions": write_labels(chain, tmp_path / "labels")}
    made = make(chain, **config)
    assert make(chain, **config, store=open_store(tmp_path / "other"), run=options(workers=2)).id == made.id
    image_id, images = made.ids[0], chain.images()
    image, labels = images.read_image(image_id), stripes(images[image_id])
    background = np.full(labels.shape, 0.35, np.float32)
    probabilities = soft_scores(maps_of(chain, image_id), background, sharpness=6.0)
    probabilities = averaged(dense_crf(image, probabilities, **PseudoConfig().crf_settings.model_dump()), labels)
    expected = mask_of_probabilities(probabilities, images[image_id].labels, min_confidence=0)
    np.testing.assert_array_equal(made.read(image_id)["mask"], expected)


def test_the_recipe_has_the_content_of_files_and_not_their_folder(chain, tmp_path):
    one, moved = write_labels(chain, tmp_path / "one"), write_labels(chain, tmp_path / "moved")
    made = make(chain, **SOFT, regions=one)
    assert "regions" not in made.manifest["recipe"]["config"]
    assert make(chain, **SOFT, regions=moved).path == made.path
    entry = chain.images()[made.ids[0]]
    Image.new("L", (entry.width, entry.height)).save(tmp_path / "moved" / f"{entry.id}.png")
    assert make(chain, **SOFT, regions=moved).path != made.path


def test_regions_that_no_setting_names_move_no_key(chain):
    config = make(chain, **SOFT, slic={"segments": 7}).manifest["recipe"]["config"]
    assert config == make(chain, **SOFT).manifest["recipe"]["config"]
    assert not {"regions", "slic", "felzenszwalb"} & set(config)


def test_missing_files_are_an_error_that_names_the_images(chain, tmp_path):
    folder = write_labels(chain, tmp_path / "labels")
    (tmp_path / "labels/train-0003.png").unlink()
    with pytest.raises(
        DataError, match=r"regions missing in .* for 1 of 16 images \(train-0003\): expected ID\.png or"
    ):
        make(chain, regions=folder)
    with pytest.raises(DataError, match=r"no regions at .*slick; expected slic, felzenszwalb, or a folder of files"):
        make(chain, regions=str(tmp_path / "slick"))


def run_lengths(height, width, total):
    return json.dumps([{"segmentation": {"size": [height, width], "counts": [total]}}]).encode()


@pytest.mark.parametrize(
    ("name", "content_of", "found"),
    [
        (
            "png",
            lambda h, w: Image.new("L", (w, h + 2)),
            r"regions of \d+ x \d+ pixels; expected \d+ x \d+, the size of",
        ),
        (
            "png",
            lambda h, w: Image.new("RGB", (w, h)),
            "a label image with mode RGB; expected one label for each pixel",
        ),
        ("png", lambda h, w: b"no image", "not a readable image"),
        ("json", lambda h, w: b"{", "not JSON"),
        ("json", lambda h, w: b'{"a": 1}', "no list of regions; expected a list, or one at 'annotations'"),
        (
            "json",
            lambda h, w: b"[3]",
            "found no run lengths at 'segmentation' of region 0; expected run lengths of COCO",
        ),
        ("json", lambda h, w: b'[{"segmentation": [[1, 2, 3, 4, 5, 6]]}]', "found no run lengths at 'segmentation'"),
        (
            "json",
            lambda h, w: run_lengths(w, h, w * h),
            r"found invalid run lengths of the size \[\d+, \d+\] .* for \d+ x",
        ),
        ("json", lambda h, w: run_lengths(h, w, 7), r"found invalid run lengths of the size"),
    ],
)
def test_files_that_do_not_fit_are_one_line_that_names_the_file(chain, tmp_path, name, content_of, found):
    entry, folder = chain.images()["train-0003"], write_labels(chain, tmp_path / "labels")
    assert entry.height != entry.width
    (tmp_path / "labels/train-0003.png").unlink()
    content = content_of(entry.height, entry.width)
    if isinstance(content, bytes):
        (tmp_path / f"labels/train-0003.{name}").write_bytes(content)
    else:
        content.save(tmp_path / f"labels/train-0003.{name}")
    with pytest.raises(DataError, match=rf"train-0003\.{name}: {found}"):
        make(chain, regions=folder)


def test_a_missing_package_is_named_with_its_remedy(chain, monkeypatch):
    monkeypatch.setattr("mcis_cli.stages.pseudo.declaration.find_spec", lambda name: None)
    with pytest.raises(UsageError, match=r"scikit-image, which finds regions by slic, is not installed; pip install"):
        make(chain, regions="slic")


def test_the_command_takes_them_foretells_them_and_makes_them_again(call, chain_copy, tmp_path):
    folder, maps = chain_copy.folder, chain_copy.made["cams"].id
    write_labels(chain_copy, folder / "labels")
    foretold = call("pseudo", maps, "--regions", "labels", "--dry-run", cwd=folder)
    assert foretold.code == 0, foretold.err
    made = call("pseudo", maps, "--regions", "labels", cwd=folder)
    assert made.code == 0, made.err
    again = call("pseudo", maps, "--regions", "labels", "--dry-run", cwd=folder)
    assert "cached" in again.out + again.err
    below = folder / "below"
    below.mkdir()
    toml = folder / "mcis.toml"
    toml.write_text(toml.read_text() + '\n[pseudo]\nregions = "labels"\n')
    assert call("pseudo", maps, cwd=below).lines == made.lines, "relative to the configuration"
    assert call("pseudo", maps, "--regions", "slic", cwd=below).lines != made.lines
    typo = call("pseudo", maps, "--regions", "slick", cwd=folder)
    assert typo.code == 2
    assert "no regions at" in typo.err
