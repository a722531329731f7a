"""`fit`: thresholds of pseudo masks that agree best with corrected masks."""

import json

import numpy as np
import pytest
from tiny_chain import options

from mcis_cli.cli.session.settings_file import with_values
from mcis_cli.config import PseudoConfig, resolve
from mcis_cli.data.palette import write_mask_png
from mcis_cli.errors import DataError, MissingError, UsageError
from mcis_cli.interop.imports import corrected
from mcis_cli.stages.engine.inputs import Inputs
from mcis_cli.stages.pseudo import fitting
from mcis_cli.stages.pseudo import run as pseudo
from mcis_cli.stages.pseudo.cues import corrected as corrected_cue

CONSTANT = {"background": "constant"}


def masks_of(chain, **given):
    settings = chain.settings(pseudo={**CONSTANT, **given}).pseudo
    return pseudo.run(settings, Inputs(upstream=chain.made["cams"], data=chain.data), chain.store, options())


@pytest.fixture
def taught(chain_copy):
    """Masks at a background score of 0.2, and an annotator who always draws those of 0.5."""
    right, masks = masks_of(chain_copy, background_score=0.5), masks_of(chain_copy)
    for image_id in right.ids[:8]:
        path = chain_copy.folder / f"fixed/{image_id}.png"
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(write_mask_png(right.read(image_id)["mask"]))
    inputs = Inputs(upstream=masks, data=chain_copy.data)
    fixed = corrected.run(chain_copy.folder / "fixed", inputs, chain_copy.store, options())
    return chain_copy, masks, fixed


def test_the_values_of_the_annotator_are_found(taught):
    chain, masks, fixed = taught
    found = fitting.run(masks, fixed, Inputs(), chain.store, options())
    assert (found.values, found.before) == ({"background_score": 0.5}, {"background_score": 0.2})
    assert found.num_images == len(fixed)
    assert found.gain > 0.01


def test_the_weight_of_a_class_is_found(chain_copy):
    """An annotator draws one class larger than the rest; the others stay as they are."""
    chain, soft = chain_copy, {"fusion": "soft", "background_score": 0.3}
    name = max(chain.images().class_names, key=lambda one: sum(one in tags_of(chain, i) for i in chain.images().ids))
    right = masks_of(chain, **soft, class_weights={name: 1.6})
    masks = masks_of(chain, **soft)
    for image_id in right.ids:
        path = chain.folder / f"fixed/{image_id}.png"
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(write_mask_png(right.read(image_id)["mask"]))
    fixed = corrected.run(chain.folder / "fixed", Inputs(upstream=masks, data=chain.data), chain.store, options())
    found = fitting.run(masks, fixed, Inputs(), chain.store, options())
    weights = found.values["class_weights"]
    assert weights[name] >= 1.25
    assert max(weights, key=weights.get) == name
    assert found.before["class_weights"] == {}
    assert found.gain > found.error


def tags_of(chain, image_id):
    images = chain.images()
    return {images.class_names[index] for index in images[image_id].labels}


def column(*values):
    return np.array(values, float)[:, None]


def test_a_choice_by_hand():
    """Candidates 1, 2 and 3 are equal within an error, with or without any of the images: 2 is in their centre."""
    table = np.array([[0.5, 0.9, 0.8, 0.7], [0.5, 0.5, 0.6, 0.7], [0.5, 0.7, 0.7, 0.7]])
    place, gains = fitting.choose(table, column(0.1, 0.2, 0.3, 0.4), 0, [0.3])
    assert place == 2
    assert gains == pytest.approx([0.3, 0.1, 0.2])


@pytest.mark.parametrize(("usual", "place"), [(0.0, 2), (0.2, 2), (0.48, 3), (9.0, 3)])
def test_the_usual_value_draws_the_choice_halfway(usual, place):
    """Candidates 1, 2 and 3 are equal within an error; their mean is 1/3. Halfway to 0.2 is 4/15, next to 0.3; halfway
    to 0.48 is 0.407 and to 0.5 5/12, next to 0.5."""
    table = np.array([[0.5, 0.9, 0.8, 0.7], [0.5, 0.5, 0.6, 0.7], [0.5, 0.7, 0.7, 0.7]])
    assert fitting.choose(table, column(0.1, 0.2, 0.3, 0.5), 0, [usual]).place == place


def test_a_candidate_that_all_images_prefer_wins():
    table = np.array([[0.5, 0.6, 0.9], [0.4, 0.5, 0.9], [0.5, 0.6, 0.8]])
    assert fitting.choose(table, column(1, 2, 3), 0, [2])[0] == 2
    place, gains = fitting.choose(table, column(1, 2, 3), 2, [1])
    assert (place, gains.tolist()) == (2, [0, 0, 0])


def test_a_gain_that_others_do_not_confirm_is_no_reason_to_change():
    """Each candidate suits one image alone: whatever the others choose makes an image worse."""
    table = np.array([[0.5, 0.9, 0.1, 0.1], [0.5, 0.1, 0.9, 0.1], [0.5, 0.1, 0.1, 0.9]])
    for scores, current in ((table, 0), (np.full((3, 4), 0.5), 2)):
        place, gains = fitting.choose(scores, column(1, 2, 3, 4), current, [2])
        assert (place, gains.tolist()) == (current, [0, 0, 0])


def test_a_score_by_hand():
    """Class 1: one of 2 pixels; class 2: none of 1. Background and pixels that the truth ignores do not count."""
    mask, truth = np.array([[0, 1, 1, 255, 0]], np.uint8), np.array([[1, 1, 255, 2, 0]], np.uint8)
    assert fitting.score(mask, truth, 4) == pytest.approx((1 / 2 + 0) / 2)
    assert fitting.score(0 * mask, 0 * truth, 4) == 1


@pytest.mark.parametrize(
    ("given", "num_images", "names"),
    [
        (CONSTANT, 20, ["background_score"]),
        ({"background": "power"}, 20, ["background_power"]),
        ({"background": "otsu"}, 20, ["otsu_factor"]),
        ({"background": "affinity"}, 20, ["background_threshold"]),
        ({"background": "saliency", "fusion": "hard"}, 20, ["foreground_threshold"]),
        ({"background": "saliency", "fusion": "soft"}, 20, ["background_score", "saliency_weight"]),
        ({**CONSTANT, "crf": True}, 39, ["background_score"]),
        ({**CONSTANT, "crf": True}, 40, ["background_score", "crf_settings.bilateral_weight"]),
    ],
)
def test_only_settings_with_an_effect_are_fitted(given, num_images, names):
    config = resolve({"pseudo": given}).pseudo
    found = list(fitting.candidates_of(config, num_images))
    assert all(list(values) == names for values in found)
    now = {name: fitting.value_of(config, name) for name in names}
    assert now in found
    assert len({tuple(values.values()) for values in found}) == len(found)
    assert fitting.changed(config, now) == config
    assert not names[0] or fitting.value_of(fitting.changed(config, found[-1]), names[-1]) == found[-1][names[-1]]


def test_settings_come_back_from_a_recipe():
    config = resolve({"pseudo": {"scales": [0.5, 1.0], "flip": True}}, "best").pseudo
    recipe = json.loads(json.dumps(config.recipe_settings(evidence="maps and network")))
    back = PseudoConfig.of_recipe({**recipe, "split": "train"})
    assert back.recipe_settings(evidence="maps and network") == recipe
    assert back.scales == (0.5, 1.0)


def test_weights_of_classes_are_written_in_one_line():
    weights = {"pseudo.class_weights": {"person": 1.25, "traffic light": 0.8}}
    made = with_values("[pseudo]\ncrf = true\n", weights, "mcis fit: a", "f")
    line = 'class_weights = { person = 1.25, "traffic light" = 0.8 }'
    assert made == f"[pseudo]\n# mcis fit: a\n{line}\ncrf = true\n"
    more = {"pseudo.class_weights": {"person": 1.25, "traffic light": 0.9, "sky": 1.1}}
    again = with_values(made, more, "mcis fit: b", "f")
    assert again == made.replace("fit: a", "fit: b").replace("0.8 }", "0.9, sky = 1.1 }")


TOML = """\
preset = "quick"  # mine
[data]
root = "shapes"

  [pseudo]  # masks
# a note of mine
background = "constant"
background_score=0.2 # tried 0.3
[eval]
precision = "fp32"
"""


def test_a_file_keeps_all_but_the_values():
    made = with_values(TOML, {"pseudo.background_score": 0.45}, "mcis fit: a", "mcis.toml")
    assert made == TOML.replace("background_score=0.2 #", "# mcis fit: a\nbackground_score=0.45 #")
    again = with_values(made, {"pseudo.background_score": 0.5}, "mcis fit: b", "mcis.toml")
    assert again == TOML.replace("background_score=0.2 #", "# mcis fit: b\nbackground_score=0.5 #")


def test_a_setting_or_a_table_that_a_file_lacks_is_added():
    values = {"pseudo.saliency_weight": 1.5, "pseudo.crf_settings.bilateral_weight": 5.0}
    made = with_values(TOML, values, "mcis fit: a", "mcis.toml")
    assert "  [pseudo]  # masks\n# mcis fit: a\nsaliency_weight = 1.5\n# a note of mine\n" in made
    assert made.endswith('precision = "fp32"\n\n[pseudo.crf_settings]\nbilateral_weight = 5.0\n')
    assert with_values("", {"pseudo.x": 1.5}, "mcis fit: a", "f") == "\n[pseudo]\n# mcis fit: a\nx = 1.5\n"
    assert with_values("a = 1", {"pseudo.x": 1.5}, "mcis fit: a", "f").startswith("a = 1\n\n[pseudo]\n")


@pytest.mark.parametrize(
    "text",
    [
        "pseudo.background_score = 0.2\n",
        "pseudo = { background_score = 0.2 }\n",
        '[data]\nroot = """\n[pseudo]\n"""\n[pseudo]\nbackground_score = 0.2\n',
        "[pseudo]\nbackground_score = [\n0.2\n]\n",
    ],
)
def test_a_file_that_cannot_be_edited_by_lines_is_left_alone(text):
    with pytest.raises(UsageError, match=r"cannot be edited line by line: .* write pseudo\.background_score = 0\.5"):
        with_values(text, {"pseudo.background_score": 0.5}, "mcis fit: a", "mcis.toml")


def test_the_command_prints_values_and_writes_them(call, taught):
    chain, masks, fixed = taught
    file = chain.folder / "mcis.toml"
    file.write_text(file.read_text() + '\n[pseudo]\nbackground = "constant"  # mine\n')
    before = file.read_text()
    given = ("fit", masks.path.stem, "--corrected", fixed.path.stem)
    answer = call(*given, "--dry-run", cwd=chain.folder)
    assert (answer.code, answer.lines, file.read_text()) == (0, ["pseudo.background_score=0.5"], before)
    answer = call(*given, "--json", cwd=chain.folder)
    facts = json.loads(answer.out)
    assert facts["values"] == {"background_score": 0.5}
    assert facts["before"] == {"background_score": 0.2}
    assert facts["images"] == len(fixed)
    assert facts["gain"] > facts["error"] >= 0
    assert "background_score 0.5 (before 0.2); expected gain in mean IoU of the classes per image +" in answer.err
    remark = next(line for line in file.read_text().splitlines() if line.startswith("# mcis fit: "))
    assert "background_score 0.5 (before 0.2)" in remark
    assert f"by {len(fixed)} corrected images of {fixed.path.stem}" in remark
    assert file.read_text() == before.replace("[pseudo]\n", f"[pseudo]\n{remark}\nbackground_score = 0.5\n")
    made = call("pseudo", cwd=chain.folder)
    assert chain.store.get(made.lines[0]).id == masks_of(chain, background_score=0.5).id


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("MASKS", "--corrected", "MAPS"), "expected corrected masks"),
        (("MAPS", "--corrected", "FIXED", "--dry-run"), "was made by cams: expected pseudo masks"),
        (
            ("OF NETWORK", "--corrected", "FIXED", "--dry-run"),
            "was made from a network alone: expected pseudo masks of",
        ),
        (("MASKS", "--corrected", "FEW", "--dry-run"), "has 1 mask of images of"),
        (("OTHER", "--corrected", "FIXED"), "mcis.toml has pseudo.background 'saliency', "),
        (
            ("OTHER", "--corrected", "FIXED", "--set", "pseudo.background=constant"),
            "mcis.toml has pseudo.background 'saliency', ",
        ),
    ],
)
def test_what_cannot_be_fitted_is_one_line(call, taught, arguments, message):
    chain, masks, fixed = taught
    store = chain.store
    ids = {"MASKS": masks.id, "MAPS": chain.made["cams"].id, "FIXED": fixed.id, "OTHER": masks.id}
    if "OF NETWORK" in arguments:
        inputs = Inputs(upstream=chain.made["train-seg"])
        ids["OF NETWORK"] = pseudo.run(chain.settings().pseudo, inputs, store, options()).id
    if "FEW" in arguments:
        for path in sorted((chain.folder / "fixed").iterdir())[1:]:
            path.unlink()
        inputs = Inputs(upstream=masks, data=chain.data)
        ids["FEW"] = corrected.run(chain.folder / "fixed", inputs, store, options()).id
    if "OTHER" not in arguments:
        file = chain.folder / "mcis.toml"
        file.write_text(file.read_text() + '\n[pseudo]\nbackground = "constant"\n')
    answer = call("fit", *(ids.get(word, word) for word in arguments), cwd=chain.folder)
    assert (answer.code, answer.out) == (2, "")
    assert message in answer.err


def test_without_a_file_the_values_are_printed_on_request_alone(call, taught):
    chain, masks, fixed = taught
    (chain.folder / "mcis.toml").unlink()
    given = ("fit", masks.path.stem, "--corrected", fixed.path.stem)
    answer = call(*given, cwd=chain.folder)
    assert (answer.code, answer.out) == (2, "")
    assert "no mcis.toml to write to" in answer.err
    assert call(*given, "--dry-run", cwd=chain.folder).lines == ["pseudo.background_score=0.5"]


def test_a_file_with_other_values_than_the_masks_gets_those_that_fit(call, taught):
    chain, masks, fixed = taught
    right = masks_of(chain, background_score=0.5)
    file = chain.folder / "mcis.toml"
    file.write_text(file.read_text() + '\n[pseudo]\nbackground = "constant"\nbackground_score = 0.7\n')
    answer = call("fit", right.path.stem, "--corrected", fixed.path.stem, cwd=chain.folder)
    assert (answer.code, answer.lines) == (0, ["pseudo.background_score=0.5"])
    assert file.read_text().endswith("\nbackground_score = 0.5\n")
    before = file.stat()
    assert call("fit", masks.path.stem, "--corrected", fixed.path.stem, cwd=chain.folder).lines == answer.lines
    assert file.stat() == before


def test_a_file_stays_a_link_with_its_mode(call, taught):
    chain, masks, fixed = taught
    file, target = chain.folder / "mcis.toml", chain.folder / "elsewhere/of-all.toml"
    target.parent.mkdir()
    file.rename(target)
    target.write_text(target.read_text().replace('"shapes"', '"../shapes"') + '\n[pseudo]\nbackground = "constant"\n')
    target.chmod(0o640)
    file.symlink_to(target)
    assert call("fit", masks.path.stem, "--corrected", fixed.path.stem, cwd=chain.folder).code == 0
    assert file.readlink() == target
    assert "background_score = 0.5\n" in target.read_text()
    assert target.stat().st_mode & 0o777 == 0o640


def test_a_file_that_cannot_be_written_is_known_before_any_work(call, taught, monkeypatch):
    chain, masks, fixed = taught
    file = chain.folder / "mcis.toml"
    file.write_text(file.read_text() + '\n[pseudo]\nbackground = "constant"\n')
    monkeypatch.setattr("os.access", lambda path, mode: False)
    answer = call("fit", masks.path.stem, "--corrected", fixed.path.stem, cwd=chain.folder)
    assert (answer.code, answer.out) == (6, "")
    assert "mcis.toml is read-only: make it writable, or give --dry-run to print the values" in answer.err


def test_corrections_of_other_images_are_named(call, taught, monkeypatch):
    chain, masks, fixed = taught
    other = dict(corrected_cue.read_record(fixed, fixed.ids[0]), mask=np.zeros((3, 5), np.uint8))
    monkeypatch.setattr(corrected_cue, "read_record", lambda *of: other)
    with pytest.raises(DataError, match=r"is of another image: found \(3, 5\), expected"):
        fitting.run(masks, fixed, Inputs(), chain.store, options())


def test_other_saliency_maps_than_those_of_the_masks_are_not_used(taught):
    chain, _, fixed = taught
    masks = masks_of(chain, background="saliency")
    assert fitting.run(masks, fixed, Inputs(), chain.store, options()).num_images == len(fixed)
    for path in (chain.folder / "shapes/saliency").iterdir():
        path.unlink()
    with pytest.raises(MissingError, match=r"the saliency maps that pseudo-\w+ was made from are not in this store"):
        fitting.run(masks, fixed, Inputs(), chain.store, options())
