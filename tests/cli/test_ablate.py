"""`mcis ablate`: the paper's Tables 1, 2, 4 and 5 on a tiny set, and what is made of their scores."""

import csv
import io
import json
import xml.etree.ElementTree as ET
from collections import Counter
from dataclasses import replace

import affinity_chain
import pytest
from tiny_chain import done, sealed

from mcis_cli.config import merge, resolve
from mcis_cli.config.ablations import TABLES
from mcis_cli.report.ablation import Measurement, as_csv, in_percent, summarise
from mcis_cli.report.ablation_figure import figure
from mcis_cli.stages.evaluate import run as evaluate
from mcis_cli.stages.pseudo import run as pseudo
from mcis_cli.store import open_store

TABLE = replace(TABLES[2], rows=TABLES[2].rows[1:])  # of one classifier


def measurement(row, seed, on, mean_iou, **more):
    """A score as `mcis eval` prints it."""
    metrics = {"split": "train", "num_images": 16, "initialisation": "lite0.pth"}
    if on == "maps":
        metrics |= {"threshold": 0.4, "threshold_chosen_with_ground_truth": True}
    if on == "segmentation":
        metrics |= {"crf": False, "scales": [1.0], "flip": False}
    return Measurement(row.name, seed, on, {**metrics, "mean_iou": mean_iou, **more}, f"id-{row.name}-{seed}-{on}")


@pytest.fixture
def measured():
    """Table 2 on maps with two seeds, the last row with one."""
    first, second, third = TABLE.rows
    return [
        measurement(first, 0, "maps", 0.30),
        measurement(first, 1, "maps", 0.40),
        measurement(second, 0, "maps", 0.34),
        measurement(second, 1, "maps", 0.42),
        measurement(third, 1, "maps", 0.41),
    ]


def test_means_and_spreads_are_those_of_the_seeds_and_gains_are_of_equal_seeds(measured):
    first, second, third = summarise(TABLE, measured)
    assert (first.mean_iou, first.gain) == (pytest.approx(0.35), None)
    assert first.deviation == pytest.approx(0.1 / 2**0.5)  # of a sample: ±0.05 around the mean, over n − 1 = 1
    assert (second.mean_iou, second.gain) == (pytest.approx(0.38), pytest.approx(0.03))  # 0.04 and 0.02
    assert second.gain_deviation == pytest.approx(0.02 / 2**0.5)
    assert (third.mean_iou, third.deviation, third.seeds) == (0.41, None, (1,))
    assert third.gain == pytest.approx(0.01)  # seed 1 with seed 1
    assert [one.published for one in (first, second, third)] == [0.647, 0.662, 0.662]
    assert [one.published_gain for one in (first, second, third)] == [None, 0.015, 0.015]


def test_every_figure_says_split_initialisation_and_whether_ground_truth_chose_a_threshold(measured):
    row = TABLE.rows[0]
    others = [measurement(row, 0, on, 0.5) for on in ("pseudo", "segmentation")]
    by_kind = {one.on: one for one in summarise(TABLE, [*measured, *others])}
    assert list(by_kind) == ["maps", "pseudo", "segmentation"]
    for kind, one in by_kind.items():
        assert one.how.startswith("split train; 16 images; initialised from lite0.pth; ")
        assert one.threshold_chosen_with_ground_truth is (kind == "maps")
        assert ("no threshold chosen" in one.how) is (kind != "maps")
    assert "without CRF; scales 1; without mirror" in by_kind["segmentation"].how
    fixed = [measurement(row, 0, "maps", 0.5, threshold_chosen_with_ground_truth=False)]
    assert summarise(TABLE, fixed)[0].how.endswith("threshold 0.4")


def test_csv_has_a_line_for_each_row_and_kind(measured):
    lines = list(csv.DictReader(io.StringIO(as_csv(summarise(TABLE, measured)))))
    assert [line["row"] for line in lines] == [row.name for row in TABLE.rows]
    assert lines[1]["values"] == "0.34 0.42"
    assert lines[1]["seeds"] == "0 1"
    assert (lines[1]["mean_iou"], lines[1]["gain"], lines[0]["gain"]) == ("0.38", "0.03", "")
    assert lines[0]["threshold_chosen_with_ground_truth"] == "true"


def test_the_figure_is_xml_with_a_dot_for_each_mean_and_each_seed(measured):
    drawn = figure(TABLE, summarise(TABLE, [*measured, measurement(TABLE.rows[0], 0, "pseudo", 0.5)]))
    root = ET.fromstring(drawn)
    dots = Counter(one.get("id") for one in root.iter("{http://www.w3.org/2000/svg}g"))
    assert dots["mean"] == 3 + 1 + 3  # maps, pseudo masks, published
    assert dots["seed"] == 5 + 1
    words = " ".join(one.text for one in root.iter("{http://www.w3.org/2000/svg}text"))
    for word in ("single-round", "38.0 ± 5.7", "66.2", "pseudo masks", "chosen with ground truth", "published"):
        assert word in words


def test_a_file_name_cannot_break_the_figure(measured):
    strange = [measurement(TABLE.rows[0], 0, "maps", 0.5, initialisation="<b>&\x1b[31m.pth")]
    assert "<b>& [31m.pth" in " ".join(ET.fromstring(figure(TABLE, summarise(TABLE, strange))).itertext())


def test_a_fraction_is_told_in_percent_with_its_spread():
    assert in_percent(None, None) == "–"
    assert in_percent(0.5, None) == "50.0"
    assert in_percent(0.5, 0.012) == "50.0 ± 1.2"
    assert in_percent(-0.021, 0.01, signed=True) == "-2.1 ± 1.0"


@pytest.mark.parametrize("number", TABLES)
def test_rows_of_a_table_are_settings_with_one_seed(chain, number):
    settings = chain.settings()
    for row in TABLES[number].rows:
        varied = row.of(settings, seed=7)
        assert {one.seed for one in (varied.train_cls, varied.cams, varied.affinity, varied.train_seg)} == {7}
        assert (varied.train_cls.loss, varied.cams.refs) == (row.loss, row.refs)
        assert varied.cams.with_contrastive == row.with_contrastive
        assert (varied.eval, varied.data) == (settings.eval, settings.data)
        assert varied.pseudo == settings.pseudo or row.maps == "walked maps"
        resolve(merge(varied.model_dump(by_alias=True), {}))  # they are valid together


@pytest.mark.parametrize("number", TABLES)
def test_no_row_of_the_preset_released_uses_weights_that_its_loss_does_not_train(number):
    for row in TABLES[number].rows:
        made = row.of(resolve({}, "released"), seed=0)
        single_round = made.cams.refs == 0 and made.cams.localization in ("references", "accumulated")
        assert single_round if row.loss == "basic" or not row.refs else made.cams.localization == "released"


@pytest.mark.slow
def test_a_row_of_the_preset_released_says_that_its_maps_are_single_round(call, chain_copy):
    given = ("--set", "cams.localization=released", "--seeds", "0", "--on", "maps", "--workers", "0")
    answer = call("ablate", "--table", "4", *given, cwd=chain_copy.folder)
    assert answer.code == 0, answer.err
    assert "basic: single-round maps, not the released code's five" in answer.err
    assert "was trained with --loss basic" not in answer.err


def test_the_rows_of_table_1_are_the_methods_that_they_name(chain):
    """Of a folder with settings of SEAM, too: rows without it lay it aside."""
    settings = chain.settings(train_cls={"equivariant": True, "image_size": 107}, cams={"refine": True})
    rows = {row.name: row.of(settings, seed=1) for row in TABLES[1].rows}
    plain, seam, psa, oaa, full = rows.values()
    assert list(rows) == ["CAM", "SEAM", "PSA (AffinityNet)", "OAA", "co-attention, full"]
    assert plain.train_cls == psa.train_cls == oaa.train_cls, "one training"
    assert plain.cams == psa.cams
    assert (plain.train_cls.equivariant, plain.train_cls.loss, plain.cams.refine, plain.cams.refs) == (
        False,
        "basic",
        False,
        0,
    )
    assert (seam.train_cls.equivariant, seam.train_cls.loss, seam.cams.refine, seam.cams.refs) == (
        True,
        "basic",
        True,
        0,
    )
    assert [one.pseudo.background == "affinity" for one in rows.values()] == [False, False, True, False, False]
    assert (oaa.cams.localization, oaa.train_cls.keep_epochs) == ("accumulated", True)
    assert (full.train_cls.loss, full.cams.refs) == ("full", 3)
    assert [row.published for row in TABLES[1].rows] == [None, None, None, None, 66.2]


def test_a_row_without_a_published_figure_has_a_gap_in_table_and_figure():
    rows = TABLES[1].rows
    summaries = summarise(TABLES[1], [measurement(row, 0, "maps", 0.4) for row in rows])
    assert [one.published for one in summaries] == [None] * 4 + [0.662]
    assert [one.published_gain for one in summaries] == [None] * 5
    root = ET.fromstring(figure(TABLES[1], summaries))
    assert Counter(one.get("id") for one in root.iter("{http://www.w3.org/2000/svg}g"))["mean"] == 5 + 1


@pytest.mark.slow
def test_table_1_measures_every_method_on_maps_and_masks(call, chain_copy, tmp_path):
    store = open_store(chain_copy.folder / ".mcis")
    before = {stage: len(done(store, stage)) for stage in ("train-cls", "cams", "affinity")}
    small = ("train-cls.image_size=107", *(f"affinity.{name}={value}" for name, value in affinity_chain.SMALL.items()))
    given = [part for one in small for part in ("--set", one)]
    arguments = ("ablate", "--table", "1", "--seeds", "0", "--workers", "0", "--json", *given)
    answer = call(*arguments, "-o", tmp_path, cwd=chain_copy.folder)
    assert answer.code == 0, answer.err
    found = json.loads(answer.out)
    assert found["failed"] == []
    assert [(row["on"], row["row"]) for row in found["rows"]] == [
        (on, row.name) for on in ("maps", "pseudo") for row in TABLES[1].rows
    ]
    scored = {(one["row"], one["on"]): store.get(one["id"]) for one in found["scores"]}
    assert scored["PSA (AffinityNet)", "maps"].meta["subject"] == "affinity"
    assert scored["OAA", "maps"].meta["subject"] == "cams"
    after = {stage: len(done(store, stage)) - before[stage] for stage in before}
    assert after == {"train-cls": 3, "cams": 4, "affinity": 1}
    for suffix in ("json", "csv", "svg"):
        assert (tmp_path / f"table-1.{suffix}").stat().st_size > 0
    again = call(*arguments, cwd=chain_copy.folder)
    assert json.loads(again.out)["scores"] == found["scores"]


@pytest.mark.slow
def test_table_5_is_one_training_and_what_is_there_is_used(call, chain_copy, tmp_path):
    store = open_store(chain_copy.folder / ".mcis")
    before = {stage: len(done(store, stage)) for stage in ("train-cls", "cams")}
    arguments = ("ablate", "--table", "5", "--seeds", "0", "--on", "maps", "--workers", "0")
    answer = call(*arguments, "--json", "-o", tmp_path / "out", cwd=chain_copy.folder)
    assert answer.code == 0, answer.err
    found = json.loads(answer.out)
    assert [row["row"] for row in found["rows"]] == [row.name for row in TABLES[5].rows]
    assert found["preset"] == "quick"
    assert all(row["on"] == "maps" and row["split"] == "train" for row in found["rows"])
    assert all(row["threshold_chosen_with_ground_truth"] and row["deviation"] is None for row in found["rows"])
    assert found["failed"] == []
    # The classifier of seed 0 and its maps with 2 references were there.
    assert len(done(store, "train-cls")) == before["train-cls"]
    assert len(done(store, "cams")) == before["cams"] + 5
    assert {path.name for path in (tmp_path / "out").iterdir()} == {
        f"table-5.{kind}" for kind in ("json", "csv", "svg")
    }
    assert json.loads((tmp_path / "out/table-5.json").read_text()) == found

    kept = sealed(chain_copy.folder / ".mcis")
    again = call(*arguments, cwd=chain_copy.folder)
    assert again.code == 0
    assert sealed(chain_copy.folder / ".mcis") == kept
    for word in (
        "Table 5: number of references",
        "66.2",
        "seeds 0",
        "chosen with ground truth",
        "preset quick",
        "lite0",
    ):
        assert word in again.out


@pytest.mark.slow
def test_tables_2_and_4_go_down_to_the_segmentation_network(call, chain_copy):
    store = open_store(chain_copy.folder / ".mcis")
    arguments = ("--seeds", "0", "--on", "segmentation", "--json", "-q", "--workers", "0")
    rows = {}
    for number in (2, 4):
        answer = call("ablate", "--table", str(number), *arguments, cwd=chain_copy.folder)
        assert answer.code == 0, answer.err
        rows[number] = json.loads(answer.out)["rows"]
        assert [row["row"] for row in rows[number]] == [row.name for row in TABLES[number].rows]
        assert {(row["split"], row["on"]) for row in rows[number]} == {("val", "segmentation")}
    # The full method is a row of both, and is measured once.
    assert rows[2][2]["values"] == rows[4][2]["values"]
    assert len(done(store, "train-cls")) == 3


@pytest.mark.slow
def test_a_row_that_fails_is_told_and_the_others_are_measured(call, chain_copy, monkeypatch):
    from mcis_cli.errors import DataError

    run = pseudo.run

    def failing(config, inputs, store, options):
        if inputs.upstream.meta["num_references"] == 3:
            raise DataError("saliency is full of bees")
        return run(config, inputs, store, options)

    monkeypatch.setattr(pseudo, "run", failing)
    arguments = ("ablate", "--table", "2", "--seeds", "0", "--on", "pseudo", "--json", "--workers", "0")
    answer = call(*arguments, cwd=chain_copy.folder)
    assert answer.code == 2
    found = json.loads(answer.out)
    assert [row["row"] for row in found["rows"]] == ["basic, single-round", "single-round"]
    assert [(one["row"], one["seed"]) for one in found["failed"]] == [(row.name, 0) for row in TABLES[2].rows[2:]]
    assert answer.err.splitlines()[-1] == (
        "mcis: error: 2 rows failed; the others finished and are kept. The first failed because saliency is full of "
        "bees"
    )
    assert answer.err.count("mcis: warning: multi-round, seed 0, failed: saliency is full of bees") == 1

    monkeypatch.setattr(pseudo, "run", run)
    again = call(*arguments, cwd=chain_copy.folder)
    assert again.code == 0
    assert len(json.loads(again.out)["rows"]) == 4


@pytest.mark.slow
def test_what_was_interrupted_goes_on_from_there(call, chain_copy, monkeypatch):
    run, scored = evaluate.run, []

    def interrupted(config, inputs, store, options):
        if len(scored) == 2:
            raise KeyboardInterrupt
        scored.append(inputs.upstream.id)
        return run(config, inputs, store, options)

    monkeypatch.setattr(evaluate, "run", interrupted)
    arguments = ("ablate", "--table", "2", "--seeds", "0", "--on", "maps", "--json", "--workers", "0")
    answer = call(*arguments, cwd=chain_copy.folder)
    assert (answer.code, answer.out) == (130, "")
    assert "run again: mcis ablate --table 2" in answer.err.splitlines()[-1]

    monkeypatch.setattr(evaluate, "run", run)
    before = done(chain_copy.store, "cams"), done(chain_copy.store, "eval")
    again = call(*arguments, cwd=chain_copy.folder)
    assert again.code == 0, again.err
    assert len(json.loads(again.out)["rows"]) == 4
    # The maps of all rows of a classifier were made in one pass; what was left was two scores.
    assert done(chain_copy.store, "cams") == before[0]
    assert len(done(chain_copy.store, "eval")) == len(before[1]) + 2


@pytest.mark.slow
def test_where_every_row_fails_nothing_is_on_stdout(call, chain_copy):
    (chain_copy.folder / "shapes/saliency/train-0003.png").unlink()
    answer = call("ablate", "--table", "2", "--seeds", "0", "--on", "pseudo", "-q", cwd=chain_copy.folder)
    assert (answer.code, answer.out) == (2, "")
    assert "saliency missing for 1 of 16 images" in answer.err.splitlines()[-1]


@pytest.mark.parametrize("dry", [[], ["--dry-run"]])
def test_missing_ground_truth_is_told_before_any_work(call, chain_copy, dry):
    (chain_copy.folder / "shapes/SegmentationClass/train-0003.png").unlink()
    before = sealed(chain_copy.folder / ".mcis")
    answer = call("ablate", "--table", "4", "--set", "train-cls.epochs=2", *dry, cwd=chain_copy.folder)
    assert (answer.code, answer.out) == (2, "")
    assert answer.err == (
        "mcis: error: ground truth missing for 1 of 16 images of split 'train' (train-0003, …): expected a mask each; "
        "choose what is scored with --on, or images with --split\n"
    )
    assert sealed(chain_copy.folder / ".mcis") == before


def test_a_dry_run_counts_what_rows_have_in_common_once_and_writes_nothing(call, chain_copy):
    before = sealed(chain_copy.folder / ".mcis")
    arguments = ("ablate", "--table", "5", "--seeds", "0,9", "--on", "maps,segmentation", "--dry-run")
    answer = call(*arguments, "--json", cwd=chain_copy.folder)
    assert (answer.code, answer.err) == (0, "")
    found = json.loads(answer.out)["stages"]
    counts = Counter(one["stage"] for one in found)
    assert counts == {"train-cls": 2, "cams": 12, "pseudo": 12, "train-seg": 12, "eval": 24}
    assert (found[0]["stage"], found[0]["artifact"]) == ("train-cls", chain_copy.made["train-cls"].path.stem)
    shared = next(one for one in found if (one["stage"], one["of"]) == ("cams", "2 references, seed 0"))
    assert shared["artifact"] == chain_copy.made["cams"].path.stem
    assert sealed(chain_copy.folder / ".mcis") == before


@pytest.mark.slow
def test_rows_walk_where_their_masks_want_it_as_a_dry_run_tells(call, chain_copy):
    with (chain_copy.folder / "mcis.toml").open("a") as file:
        file.write(affinity_chain.TOML + '\n[pseudo]\nbackground = "affinity"\n')
    arguments = ("ablate", "--table", "2", "--seeds", "0", "--on", "maps,pseudo", "--json")
    told = json.loads(call(*arguments, "--dry-run", cwd=chain_copy.folder).out)["stages"]
    first = [one["stage"] for one in told if one["of"] == "single-round, seed 0"]
    assert first == ["train-cls", "cams", "eval", "affinity-labels", "affinity-net", "affinity", "pseudo", "eval"]

    answer = call(*arguments, "--workers", "0", cwd=chain_copy.folder)
    assert answer.code == 0, answer.err
    found = json.loads(answer.out)
    assert found["failed"] == []
    assert Counter(row["on"] for row in found["rows"]) == {"maps": 4, "pseudo": 4}
    store = chain_copy.store
    before = chain_copy.made["pseudo"].id
    masks = [one for one in store.artifacts() if one.stage == "pseudo" and one.id != before]
    assert {store.get(one.inputs["maps"]).stage for one in masks} == {"affinity"}
    assert len(done(store, "affinity")) == 4
    again = json.loads(call(*arguments, "--dry-run", cwd=chain_copy.folder).out)
    assert all(one["artifact"] for one in again["stages"])
    assert again["seconds"] == 0


@pytest.mark.parametrize(
    ("arguments", "part"),
    [
        ([], "no table is named: expected one of 1, 2, 4, 5, as in --table 5"),
        (["--table", "3"], "table 3 of the paper is none of these: expected one of 1, 2, 4, 5"),
        (["--table", "2", "--on", "maps,nets"], "--on 'maps,nets' is not understood: expected some of maps, pseudo"),
        (["--table", "2", "--seeds", "0;1"], "--seeds '0;1' is not understood: expected whole numbers"),
        (["--table", "2", "--set", "train-seg.supervision=full"], "has no rows to compare"),
        (["nowhere", "--table", "2"], "nowhere does not exist"),
    ],
)
def test_a_mistake_is_one_line_and_2(call, chain, arguments, part):
    answer = call("ablate", *arguments, cwd=chain.folder)
    assert (answer.code, answer.out, answer.err.count("\n")) == (2, "", 1)
    assert part in answer.err


def test_several_processes_are_refused(call, chain, monkeypatch):
    monkeypatch.setenv("RANK", "0")
    monkeypatch.setenv("WORLD_SIZE", "2")
    answer = call("ablate", "--table", "2", cwd=chain.folder)
    assert answer.code == 2
    assert "found several (WORLD_SIZE)" in answer.err
