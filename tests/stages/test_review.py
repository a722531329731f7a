"""`review`: pseudo masks by how likely they are wrong, from terms that need no ground truth."""

import json

import numpy as np
import pytest
from tiny_chain import CLASSES, options

from mcis_cli.config import PseudoConfig, ReviewConfig
from mcis_cli.data.catalogue import Catalogue
from mcis_cli.data.palette import write_mask_png
from mcis_cli.errors import DamagedError, DataError, MissingError, UsageError
from mcis_cli.interop.imports import corrected
from mcis_cli.maps.review import agreement, border_share, overlap
from mcis_cli.stages import check, read_records
from mcis_cli.stages.engine.inputs import Inputs
from mcis_cli.stages.materials import SALIENCY, saliency_recipe
from mcis_cli.stages.pseudo import run as pseudo
from mcis_cli.stages.pseudo.declaration import PSEUDO
from mcis_cli.stages.pseudo.fusing import make_mask
from mcis_cli.stages.pseudo.material import Material
from mcis_cli.stages.review import run as review
from mcis_cli.stages.review.declaration import ABSENT, REVIEW, SCHEMA
from mcis_cli.stages.review.ranking import ranking
from mcis_cli.store import Recipe

CONFIG = ReviewConfig(precision="fp32")
MASK = np.array([[0, 0, 2, 2], [0, 255, 2, 2], [0, 0, 0, 1]], np.uint8)


def reviewed(chain, **given):
    return review.run(CONFIG, Inputs(upstream=chain.made["pseudo"], **given), chain.store, options())


def test_agreement_of_two_masks_by_hand():
    """Background: 5 pixels of 9; class 1: none of 2; class 2: 3 of 4; class 3: neither mask has it."""
    other = np.array([[0, 0, 0, 2], [0, 0, 2, 2], [0, 1, 0, 0]], np.uint8)
    np.testing.assert_allclose(agreement(MASK, other, [0, 1, 2, 3]), [5 / 9, 0, 3 / 4, 0])


def test_overlap_with_saliency_by_hand():
    """Inside are 4 pixels of 0.5 and the one of 1; outside one of 0.25. Ignored pixels are outside."""
    saliency = np.zeros(MASK.shape, np.float32)
    saliency[:2, 2:], saliency[2, 3], saliency[1, 1] = 0.5, 1, 0.25
    assert overlap(MASK, saliency) == pytest.approx(3 / (5 + 0.25))
    assert overlap(np.zeros_like(MASK), 0 * saliency) == 0


def test_border_by_hand():
    """Of the ten pixels at the border, four are of objects: three of class 2, one of class 1."""
    assert border_share(MASK) == pytest.approx(4 / 10)
    assert border_share(np.array([[1, 0, 1]], np.uint8)) == pytest.approx(2 / 3)


def test_terms_are_those_of_the_mask_and_its_witnesses():
    """The maps say background at half of the pixels, and class 2 (label 1) with 0.8 at the others."""
    scores = np.stack([np.full(MASK.shape, 0.6), np.full(MASK.shape, 0.1), np.full(MASK.shape, 0.3)]).astype(np.float32)
    scores[:, :, 2:] = np.array([0.1, 0.1, 0.8])[:, None, None]
    found = review.terms(MASK, (0, 1), scores)
    np.testing.assert_array_equal(found["values"], [0, 1, 2])
    np.testing.assert_allclose(
        found["by_value"], [[6 / 12, 5 / 7, ABSENT], [1 / 12, 0, ABSENT], [4 / 12, 4 / 6, ABSENT]], rtol=1e-6
    )
    np.testing.assert_allclose(found["of_image"], [(6 * 0.6 + 6 * 0.8) / 12, 6 / 10, ABSENT], rtol=1e-6)
    predicted = review.terms(MASK, (0, 1), scores, np.ones(MASK.shape, np.float32), np.where(MASK == 255, 0, MASK))
    np.testing.assert_allclose(predicted["by_value"][:, 2], [6 / 7, 1, 1], rtol=1e-6)
    assert predicted["of_image"][2] == pytest.approx(5 / 12)


FIELDS = {"maps": np.array([[[0.2, 0.8, 0.1]], [[0.6, 0.1, 0.1]]], np.float32), "classes": np.array([0, 2])}


@pytest.mark.parametrize(
    ("background", "given"),
    [
        ("constant", {"background_score": 0.4}),
        ("power", {"background_power": 2.0}),
        ("otsu", {}),
        ("affinity", {}),
        ("otsu", {"fusion": "soft", "class_weights": {"cat": 2.0, "dog": 0.7}}),
    ],
)
def test_maps_alone_give_the_mask_that_has_no_other_evidence(background, given):
    """Without CRF and saliency, a mask is that of the maps alone, by each rule."""
    config = PseudoConfig(background=background, crf=False, **given)
    material = Material("a", FIELDS["maps"], (0, 2), (3, 24), names=("cat", "dog"))
    mask = make_mask(config, material)[1]["mask"]
    scores = review._scores(config, FIELDS, (0, 2), ("cat", "dog"), (3, 24))
    assert {0, 1, 3} == {*np.unique(mask)}
    np.testing.assert_array_equal(np.array([0, 1, 3])[scores.argmax(axis=0)], mask)


def test_a_tag_without_a_map_is_nowhere():
    none = {"maps": np.zeros((0, 1, 2), np.float32), "classes": np.zeros(0, np.int32)}
    scores = review._scores(PseudoConfig(background="otsu"), none, (1,), ("cat",), (2, 4))
    assert (scores[0] >= scores[1]).all()


def test_a_score_is_one_less_the_mean_of_the_terms(chain):
    made = reviewed(chain)
    by_id = {one.image_id: one for one in ranking(made)}
    assert set(by_id) == {entry.id for entry in chain.images().split("train").entries if entry.labels}
    for image_id, fields in read_records(made):
        means = [fields["by_value"][:, 1].mean(), *fields["of_image"].tolist()]
        assert fields["of_image"][2] != ABSENT  # the set has saliency maps
        assert by_id[image_id].score == pytest.approx(1 - np.mean(means), abs=1e-4)
        assert by_id[image_id].reasons
    scores = [one.score for one in ranking(made)]
    assert scores == sorted(scores, reverse=True)


def test_a_network_is_one_more_witness(chain):
    made = reviewed(chain, network=chain.made["train-seg"])
    for _, fields in read_records(made):
        assert ((fields["by_value"][:, 2] >= 0) & (fields["by_value"][:, 2] <= 1)).all()
    assert made.id != reviewed(chain).id


def test_masks_that_are_wrong_come_first(chain_copy):
    """Masks that people made wrong, and that the review takes as they are: objects and background change places."""
    store, masks = chain_copy.store, chain_copy.made["pseudo"]
    wrong = set(masks.ids[::5])
    spoiled = {}
    for image_id, fields in read_records(masks):
        mask = fields["mask"].copy()
        if image_id in wrong:
            mask = np.where(mask == 0, fields["classes"][0] + 1, 0).astype(np.uint8)
        spoiled[image_id] = {**fields, "mask": mask}
    recipe = masks.manifest["recipe"]
    schema = PSEUDO.content.schemas[0]
    with store.begin(Recipe(masks.stage, 99, recipe["config"], recipe["inputs"])) as partial:
        partial.write_segment(0, schema, sorted(spoiled.items()))
        other = partial.seal(schema, 1, masks.meta, {})
    made = review.run(CONFIG, Inputs(upstream=other), store, options())
    assert {one.image_id for one in ranking(made)[: len(wrong)]} == wrong


def test_no_ground_truth_is_read(chain_copy, monkeypatch):
    monkeypatch.setattr(Catalogue, "read_mask", lambda *a: pytest.fail("ground truth was read"))
    made = reviewed(chain_copy)
    assert ranking(made)


def test_images_whose_mask_was_corrected_are_left_out(chain_copy):
    store, first = chain_copy.store, chain_copy.made["pseudo"].ids[0]
    mask = np.full_like(chain_copy.made["pseudo"].read(first)["mask"], 2)
    (chain_copy.folder / "fixed").mkdir()
    (chain_copy.folder / f"fixed/{first}.png").write_bytes(write_mask_png(mask))
    inputs = Inputs(upstream=chain_copy.made["pseudo"], data=chain_copy.data)
    fixed = corrected.run(chain_copy.folder / "fixed", inputs, store, options())
    inputs = Inputs(upstream=chain_copy.made["cams"], data=chain_copy.data, corrected=fixed)
    masks = pseudo.run(chain_copy.settings().pseudo, inputs, store, options())
    made = review.run(CONFIG, Inputs(upstream=masks), store, options())
    assert first in masks.ids
    assert first not in made.ids


def test_what_a_review_cannot_use_is_one_line(chain_copy):
    store, made = chain_copy.store, chain_copy.made
    with pytest.raises(UsageError, match=r"--network cams-\w+ was made by cams: expected a segmentation network"):
        reviewed(chain_copy, network=made["cams"])
    of_network = pseudo.run(chain_copy.settings().pseudo, Inputs(upstream=made["train-seg"]), store, options())
    with pytest.raises(UsageError, match="was made from a network alone: expected pseudo masks of maps"):
        review.run(CONFIG, Inputs(upstream=of_network), store, options())
    made["cams"].path.unlink()
    with pytest.raises(MissingError, match=r"the maps that pseudo-\w+ was made from are not in this store"):
        reviewed(chain_copy)


def test_nothing_to_review_is_one_line(chain, monkeypatch):
    meta = {**chain.made["pseudo"].meta, "corrected": list(chain.made["pseudo"].ids)}
    monkeypatch.setattr(type(chain.made["pseudo"]), "meta", meta)
    with pytest.raises(DataError, match="no mask to review: expected images with tags whose mask was not corrected"):
        reviewed(chain)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("values", [0, 9]),
        ("values", [1, 2]),
        ("by_value", [[2, 0, 0]]),
        ("by_value", [[0.5, 0.5, 0.5]] * 2),
        ("of_image", [0, 0]),
    ],
)
def test_a_review_of_elsewhere_is_checked(chain_copy, field, value):
    store, masks = chain_copy.store, chain_copy.made["pseudo"]
    fields = {
        "values": np.array([0], np.int32),
        "by_value": np.zeros((1, 3), np.float32),
        "of_image": np.zeros(3, np.float32),
    }
    fields[field] = np.array(value, fields[field].dtype)
    meta = {name: masks.meta[name] for name in ("dataset", "split", "class_names", "initialisation")}
    with store.begin(REVIEW.recipe({}, {})) as partial:
        partial.write_segment(0, SCHEMA, [("a", fields)])
        other = partial.seal(SCHEMA, 1, meta, {})
    check(other)
    with pytest.raises(DamagedError, match="in the record of 'a'"):
        ranking(other)


def test_the_command_prints_a_list_and_writes_a_page(call, chain_copy):
    folder, masks = chain_copy.folder, chain_copy.made["pseudo"].path.stem
    answer = call("review", masks, "--count", "3", cwd=folder)
    assert answer.code == 0, answer.err
    cells = [line.split("\t") for line in answer.lines]
    assert [len(one) for one in cells] == [3, 3, 3]
    listed = ranking(reviewed(chain_copy))
    assert [(one[0], float(one[1])) for one in cells] == [
        (one.image_id, pytest.approx(one.score, abs=6e-4)) for one in listed[:3]
    ]
    assert f"3 of {len(listed)} masks are on the page review.html" in answer.err
    page = (folder / "review.html").read_text()
    for image_id, _, reasons in cells:
        assert f'data-name="{image_id}"' in page
        assert reasons.split("; ")[0] in page
    assert f'data-name="{listed[3].image_id}"' not in page
    assert "ground truth</small>" not in page
    assert "http://" not in page.replace("http://www.w3.org", "")
    again = call("review", masks, "--count", "2", "--json", cwd=folder)
    assert "review: cached" in again.err
    assert [json.loads(line) for line in again.lines] == [
        {"id": one.image_id, "score": one.score, "reasons": list(one.reasons)} for one in listed[:2]
    ]
    assert call("review", masks, "--count", "2", "-q", cwd=folder).lines == [one.image_id for one in listed[:2]]


def test_the_page_shows_what_the_network_predicts(call, chain_copy):
    given = ("review", chain_copy.made["pseudo"].path.stem, "--network", chain_copy.made["train-seg"].path.stem)
    answer = call(*given, "--count", "2", "-o", "seen.html", cwd=chain_copy.folder)
    assert answer.code == 0, answer.err
    assert len(answer.lines) == 2
    page = (chain_copy.folder / "seen.html").read_text()
    assert page.count('data-title="prediction"') == page.count('data-title="pseudo mask"') == 2
    assert 'data-title="ground truth"' not in page


def test_a_file_that_is_no_report_is_not_overwritten(call, chain):
    answer = call("review", chain.made["pseudo"].path.stem, "-o", "mcis.toml", cwd=chain.folder)
    assert (answer.code, answer.out) == (2, "")
    assert "mcis.toml already exists and is not a report: give --force to overwrite it" in answer.err


def test_shards_and_a_dry_run(call, chain_copy):
    folder, masks = chain_copy.folder, chain_copy.made["pseudo"].path.stem
    answer = call("review", masks, "--dry-run", cwd=folder)
    assert answer.code == 0, answer.err
    assert answer.lines[1].split()[:2] == ["review", "run:"]
    assert not (folder / "review.html").exists()
    assert call("review", masks, "--shard", "1/1", cwd=folder).code == 0
    assert call("review", masks, "--dry-run", cwd=folder).lines[1].split()[:2] == ["review", "cached,"]


def test_saliency_maps_of_the_masks_take_precedence_over_those_of_the_image_set(chain_copy):
    store, images = chain_copy.store, chain_copy.images().split("train")
    plain = {one.id: np.full((one.height, one.width), 51, np.uint8) for one in images.entries}
    schema = SALIENCY.content.schemas[0]
    with store.begin(saliency_recipe("a model", images)) as partial:
        partial.write_segment(0, schema, [(image_id, {"saliency": plain[image_id]}) for image_id in sorted(plain)])
        made = partial.seal(schema, 1, {}, {})
    inputs = Inputs(upstream=chain_copy.made["cams"], data=chain_copy.data, saliency=made)
    masks = pseudo.run(chain_copy.settings().pseudo, inputs, store, options())
    found = review.run(CONFIG, Inputs(upstream=masks), store, options())
    assert found.inputs["saliency"] == made.id
    for image_id, fields in read_records(found):
        objects = (masks.read(image_id)["mask"] % 255 > 0).sum()
        inside, outside = 0.2 * objects, 0.2 * (plain[image_id].size - objects)
        assert fields["of_image"][2] == pytest.approx(inside / (objects + outside), abs=1e-5)
    made.close()
    made.path.unlink()
    with pytest.raises(MissingError, match=r"the saliency maps that pseudo-\w+ was made from are not in this store"):
        review.run(CONFIG, Inputs(upstream=masks), store, options())


def test_an_engine_computes_the_same(call, chain_copy):
    masks = chain_copy.made["pseudo"].path.stem
    given = ("review", masks, "--engine", "processes", "--workers", "2", "-q", "--count", "3")
    answer = call(*given, cwd=chain_copy.folder)
    assert answer.code == 0, answer.err
    assert answer.lines == [one.image_id for one in ranking(reviewed(chain_copy))[:3]]


def test_the_report_orders_its_gallery_by_the_review(call, chain_copy):
    folder, masks = chain_copy.folder, chain_copy.made["pseudo"].path.stem
    given = ("report", masks, "--no-attention", "--no-predictions", "--images", "3")
    assert call(*given, cwd=folder).code == 0
    assert "mcis review ranks as likely wrong" not in (folder / "report.html").read_text()
    listed = ranking(reviewed(chain_copy))
    assert call(*given, cwd=folder).code == 0
    page = (folder / "report.html").read_text()
    assert "mcis review ranks as likely wrong" in page
    assert page.index('<option value="doubt">') < page.index('<option value="name">')
    found = {one.image_id: one for one in listed}
    for card in page.split('<article class="card"')[1:]:
        image_id = card.split('data-name="')[1].split('"')[0]
        assert f'data-doubt="{found[image_id].score:.4f}"' in card


def test_names_of_classes_are_in_the_reasons(chain):
    words = " ".join(reason for one in ranking(reviewed(chain)) for reason in one.reasons)
    assert any(name in words for name in CLASSES)
