"""Streams, references and exit codes of the five commands."""

import json
from pathlib import Path

import pytest
from run_commands import mcis
from tiny_chain import CLASSES, sealed, write_shapes

from mcis_cli.store import open_store

KEYS = {"id", "path", "stage", "key", "cached", "seconds"}


def refused(answer, code, *parts):
    """One line on stderr with all parts, nothing on stdout, and the exit code."""
    assert answer.code == code, answer
    assert answer.out == ""
    assert answer.err.count("\n") == 1, answer.err
    assert answer.err.startswith("mcis: error: ")
    assert "Traceback" not in answer.err
    for part in parts:
        assert part in answer.err


@pytest.mark.slow
def test_stdout_is_one_path_and_stderr_says_what_was_done(call, chain):
    answer = call("cams", "--refs", "1", "--set", "cams.seed=11", cwd=chain.folder)
    (path,) = answer.lines
    assert Path(path).is_file()
    assert f"mcis: cams: done in 0 s, {Path(path).stem}" in answer.err or "mcis: cams: done in" in answer.err


def test_json_is_one_object_with_the_promised_keys(call, chain):
    found = json.loads(call("cams", "--json", cwd=chain.folder).out)
    made = chain.made["cams"]
    assert set(found) == KEYS
    assert found["seconds"] >= 0
    assert {key: found[key] for key in KEYS - {"seconds"}} == {
        "id": made.id,
        "path": str(made.path),
        "stage": "cams",
        "key": made.key,
        "cached": True,
    }


def test_json_of_an_evaluation_has_fractions_by_class_name(call, chain):
    found = json.loads(call("eval", "--json", cwd=chain.folder).out)
    assert set(found) == {*KEYS, "metrics"}
    metrics = found["metrics"]
    assert 0 <= metrics["mean_iou"] <= 1
    assert list(metrics["iou"]) == ["background", *CLASSES]
    assert all(value is None or 0 <= value <= 1 for value in metrics["iou"].values())
    assert (metrics["split"], metrics["crf"], metrics["subject"]) == ("val", False, "train-seg")
    assert metrics["initialisation"].startswith("efficientnet-lite0")


def test_what_is_computed_is_not_called_cached(call, chain):
    first = json.loads(call("pseudo", "--min-foreground", "0.011", "--json", cwd=chain.folder).out)
    second = json.loads(call("pseudo", "--min-foreground", "0.011", "--json", cwd=chain.folder).out)
    assert (first["cached"], second["cached"]) == (False, True)
    assert first["id"] == second["id"] == chain.made["pseudo"].id  # of equal content, by another recipe


def test_maps_of_several_numbers_of_references_are_a_line_each(call, chain):
    answer = call("cams", "--refs", "1,2", cwd=chain.folder)
    assert answer.code == 0
    assert [open_store(chain.folder / ".mcis").get(line).meta["num_references"] for line in answer.lines] == [1, 2]
    assert answer.lines[1] == str(chain.made["cams"].path)
    again = call("cams", "--refs", "2,1", "--json", cwd=chain.folder)
    assert [json.loads(line)["path"] for line in again.lines] == answer.lines[::-1]


@pytest.mark.parametrize("refs", ["-1", "1,", "a", "1.5", "", "1;2"])
def test_references_that_are_no_numbers_are_one_line_and_2(call, chain, refs):
    answer = call("cams", f"--refs={refs}", cwd=chain.folder)
    assert (answer.code, answer.out) == (2, "")
    assert answer.err.count("\n") == 1
    assert "expected whole numbers" in answer.err


def test_quiet_prints_the_id_and_nothing_for_people(call, chain):
    answer = call("train-seg", "-q", cwd=chain.folder)
    assert answer.lines == [chain.made["train-seg"].id]
    assert answer.err == ""


@pytest.mark.parametrize("subject", ["cams", "pseudo", "train-seg"])
def test_a_table_says_what_was_scored_and_how(call, chain, subject):
    answer = call("eval", chain.made[subject].id[:8], cwd=chain.folder)
    assert answer.code == 0
    assert len(answer.lines) == 1
    for name in ("background", *CLASSES, "mean"):
        assert name in answer.err
    assert "initialised from efficientnet-lite0" in answer.err
    told = {
        "cams": ("localization maps, split train", "(chosen with ground truth)"),
        "pseudo": ("pseudo masks, split train", "ignored ones count as missed"),
        "train-seg": ("segmentation network, split val", "without CRF; scales 1; without mirror"),
    }
    for part in told[subject]:
        assert part in answer.err


def test_an_upstream_artifact_is_given_by_path_file_name_id_prefix_or_name(call, chain):
    made = chain.made["cams"]
    store = open_store(chain.folder / ".mcis")
    store.name("good-maps", made)
    references = (made.path, made.path.relative_to(chain.folder), made.path.name, made.id, made.id[:8], "good-maps")
    for reference in references:
        answer = call("pseudo", reference, cwd=chain.folder)
        assert answer.lines == [str(chain.made["pseudo"].path)], answer.err


@pytest.mark.parametrize("how", ["path", "id", "json"])
def test_an_upstream_artifact_comes_through_the_pipe(chain, how):
    made = chain.made["cams"]
    line = {"path": str(made.path), "id": made.id, "json": json.dumps({"id": made.id, "path": str(made.path)})}[how]
    for arguments in (["pseudo"], ["pseudo", "-"]):
        answer = mcis(*arguments, cwd=chain.folder, piped=f"{line}\n")
        assert answer.lines == [str(chain.made["pseudo"].path)], answer.err


def test_the_store_of_a_piped_path_is_used_from_anywhere(chain, tmp_path):
    answer = mcis("pseudo", "--preset", "quick", cwd=tmp_path, piped=f"{chain.made['cams'].path}\n")
    assert answer.lines == [str(chain.made["pseudo"].path)], answer.err
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("command", "previous"), [("cams", "train-cls"), ("pseudo", "cams"), ("train-seg", "pseudo"), ("eval", "train-seg")]
)
def test_an_empty_pipe_is_3(tmp_path, command, previous):
    answer = mcis(command, cwd=tmp_path, piped="")
    refused(answer, 3, "the pipe is empty", f"`mcis {previous}` or another")
    assert not list(tmp_path.iterdir())


def test_a_pipe_with_something_else_is_refused(tmp_path):
    refused(mcis("cams", cwd=tmp_path, piped='{"no": "path"}\n'), 2, "expected the path or the id of an artifact")
    refused(mcis("cams", cwd=tmp_path, piped="hello\n"), 3, "no artifact 'hello'")


@pytest.mark.parametrize("command", ["cams", "pseudo", "train-seg", "eval"])
def test_without_artifact_and_configuration_a_command_tells_where_to_begin(call, tmp_path, command):
    refused(call(command, cwd=tmp_path), 3, "no artifact to start from", "`mcis init DATA` writes it", "`mcis ls`")
    assert not sealed(tmp_path / ".mcis")


@pytest.mark.parametrize(
    ("command", "settings", "missing"),
    [
        ("cams", ["--set", "train-cls.epochs=7"], "train-cls"),
        ("pseudo", ["--set", "cams.refs=4", "--set", "cams.seed=4"], "cams"),
        ("eval", ["--set", "train-seg.epochs=7"], "train-seg"),
        ("eval", ["--set", "train-cls.epochs=7"], "train-cls"),
    ],
)
def test_a_stage_that_the_configuration_asks_for_and_is_not_done_is_named(call, chain, command, settings, missing):
    refused(call(command, *settings, cwd=chain.folder), 3, f"run `mcis {missing}` first", "mcis.toml")


@pytest.mark.parametrize(
    ("command", "stage", "wanted"),
    [
        ("cams", "pseudo", "train-cls"),
        ("pseudo", "train-cls", "cams"),
        ("train-seg", "cams", "pseudo"),
        ("eval", "train-cls", "train-seg or pseudo or affinity or cams"),
    ],
)
def test_an_artifact_of_another_stage_is_2(call, chain, command, stage, wanted):
    answer = call(command, chain.made[stage].id, cwd=chain.folder)
    refused(answer, 2, f"was made by {stage}: expected an artifact of {wanted}")


@pytest.mark.parametrize(
    ("arguments", "part"),
    [
        (["train-cls", "--set", "train-cls.epoch=3"], "setting train-cls.epoch is not known; did you mean epochs?"),
        (["cams", "--set", "refs=3"], "--set 'refs=3' is not understood: expected section.field=value"),
        (["cams", "--refs", "many"], "--refs 'many' is not understood: expected whole numbers, as in 3 or 0,1,3,5"),
        (["cams", "--scales", "1;2"], "'1;2' is not understood: expected numbers and commas, as in 0.5,1,1.5"),
        (["cams", "--set", "cams.refs=-1"], "cams.refs = -1 is not accepted"),
        (["train-cls", "--preset", "fast"], "preset 'fast' is not known: expected one of paper, released, quick"),
        (["train-cls", "--backbone", "vgg19"], "train-cls.backbone = 'vgg19' is not accepted"),
        (["train-cls", "--loss", "triplet"], "train-cls.loss = 'triplet' is not accepted"),
        (["pseudo", "--background", "blue"], "pseudo.background = 'blue' is not accepted"),
        (["pseudo", "--foreground-threshold", "30"], "pseudo.foreground_threshold = 30.0 is not accepted"),
        (["train-seg", "--architecture", "unet"], "train-seg.network = 'unet' is not accepted"),
        (["eval", "--min-miou", "50"], "Invalid value for '--min-miou'"),
        (["cams", "--no-such-flag"], "No such option: --no-such-flag"),
        (["segment"], "No such command 'segment'"),
        (["cams", "--config", "nowhere.toml"], "nowhere.toml cannot be read: No such file"),
        (["cams", "--device", "cuda:77"], "cuda:77"),
        (["train-cls", "--split", "test"], "no split 'test' in "),
        (["train-cls", "nowhere"], "nowhere does not exist: expected a folder of images or tar shards"),
    ],
)
def test_a_mistake_is_one_line_and_2(call, chain, arguments, part):
    before = sealed(chain.folder / ".mcis")
    extra = ["--set", "cams.seed=12345"] if "cuda:77" in arguments else []
    refused(call(*arguments, *extra, cwd=chain.folder), 2, part)
    assert sealed(chain.folder / ".mcis") == before


def test_without_images_the_first_command_tells_how_to_name_them(call, tmp_path):
    refused(
        call("train-cls", cwd=tmp_path), 2, "no images are named", "`mcis train-cls photos/`", "`mcis init photos/`"
    )


@pytest.mark.parametrize(
    ("name", "content", "part"),
    [
        ("JPEGImages/train-0003.jpg", b"no picture", "train-0003.jpg"),
        ("JPEGImages/train-0003.jpg", b"", "train-0003.jpg"),
        ("image_tags.txt", b"train-0000 dog\n", "dog"),
        ("ImageSets/Segmentation/train.txt", b"train-0000\nnobody\n", "nobody"),
        ("ImageSets/Segmentation/train.txt", b"", "train"),
        ("classes.txt", b"\xff\xfe\xff", "classes.txt"),
        ("mcis.toml", b"[data\n", "is not valid TOML"),
    ],
)
def test_bad_input_is_one_line_and_2_and_leaves_nothing(call, tmp_path, name, content, part):
    write_shapes(tmp_path / "shapes")
    ((tmp_path if name == "mcis.toml" else tmp_path / "shapes") / name).write_bytes(content)
    refused(call("train-cls", "shapes", "--preset", "quick", cwd=tmp_path), 2, part)
    assert not sealed(tmp_path / ".mcis")
    assert not list((tmp_path / ".mcis").glob("partial/*"))


def test_an_image_that_only_decoding_finds_broken_is_2_and_leaves_nothing(call, chain_copy):
    image = chain_copy.folder / "shapes/JPEGImages/train-0003.jpg"
    image.write_bytes(image.read_bytes()[:-400])
    before = sealed(chain_copy.folder / ".mcis")
    answer = call("train-cls", "--set", "train-cls.lr_milestones=[]", cwd=chain_copy.folder)
    refused(answer, 2, "train-0003.jpg")
    assert sealed(chain_copy.folder / ".mcis") == before


def test_a_folder_without_tags_is_refused(call, tmp_path):
    write_shapes(tmp_path / "shapes")
    (tmp_path / "shapes/image_tags.txt").unlink()
    answer = call("train-cls", "shapes", "--preset", "quick", cwd=tmp_path)
    refused(answer, 2, "tag")
    assert not sealed(tmp_path / ".mcis")


def flip_a_bit(path, place):
    path.chmod(0o644)
    content = bytearray(path.read_bytes())
    content[place if place >= 0 else len(content) + place] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize("place", [700, -20], ids=["near the start", "near the end"])
def test_a_damaged_artifact_is_4(call, chain_copy, place):
    path = chain_copy.made["cams"].path
    flip_a_bit(path, place)
    refused(call("pseudo", "--foreground-threshold", "0.77", cwd=chain_copy.folder), 4, path.name)


def test_damage_elsewhere_does_not_stop_a_command(call, chain_copy):
    flip_a_bit(chain_copy.made["eval"].path, 100)
    answer = call("pseudo", "--foreground-threshold", "0.77", cwd=chain_copy.folder)
    assert answer.code == 0, answer.err


def test_a_mean_iou_under_the_least_is_7_and_the_score_is_still_there(call, chain):
    answer = call("eval", "--min-miou", "0.99", "--json", cwd=chain.folder)
    assert answer.code == 7
    assert json.loads(answer.out)["id"] == chain.made["eval"].id
    error = answer.err.splitlines()[-1]
    assert error.startswith("mcis: error: mean IoU of train-seg-")
    assert "on split val: found 0." in error
    assert "expected at least 0.9900 (--min-miou)" in error
    assert call("eval", "--min-miou", "0.01", cwd=chain.folder).code == 0


def test_flags_without_effect_are_told(call, chain):
    answer = call("pseudo", "--background-score", "0.4", cwd=chain.folder)
    assert answer.code == 0
    assert "mcis: warning: --background-score has no effect with --background saliency" in answer.err
    answer = call("pseudo", "--background", "constant", "--min-foreground", "0.2", cwd=chain.folder)
    assert "mcis: warning: --min-foreground has no effect with --background constant" in answer.err


def warned(answer):
    assert answer.code == 0, answer.err
    return [line for line in answer.err.splitlines() if "has no effect" in line]


@pytest.mark.slow
def test_settings_without_a_flag_are_told_too_and_none_of_a_preset(call, chain_copy):
    folder = chain_copy.folder
    answer = call("pseudo", "--set", "pseudo.sharpness=3", "--set", "pseudo.saliency_middle=0.4", cwd=folder)
    assert warned(answer) == [
        f"mcis: warning: pseudo.{name} has no effect with --fusion hard" for name in ("saliency_middle", "sharpness")
    ]
    nearest = ("cams", chain_copy.made["train-cls"].id, "--reference-choice", "nearest")
    answer = call(*nearest, "--set", "cams.reference_self=true", cwd=folder)
    assert warned(answer) == ["mcis: warning: cams.reference_self has no effect with --reference-choice nearest"]
    assert warned(call(*nearest, "--preset", "released", cwd=folder)) == []  # which sets reference_self
    best = ("--preset", "best", "--fusion", "hard", "--no-crf")  # which sets values of soft fusion and of a CRF
    assert warned(call("pseudo", chain_copy.made["cams"].id, *best, cwd=folder)) == []


def test_settings_of_a_file_are_told_unless_they_are_for_the_other_round(call, chain_copy):
    folder = chain_copy.folder
    with (folder / "mcis.toml").open("a") as file:
        file.write("\n[pseudo]\nsharpness = 3\nflip = true\nnetwork_weight = 2\n")
    told = "mcis: warning: pseudo.sharpness has no effect with --fusion hard"
    assert warned(call("pseudo", cwd=folder)) == [told]
    assert warned(call("pseudo", "--flip", cwd=folder)) == [
        "mcis: warning: --flip has no effect on masks of maps without --network",
        told,
    ]
    network = chain_copy.made["train-seg"].id
    assert warned(call("pseudo", network, cwd=folder)) == []
    assert warned(call("pseudo", network, "--set", "pseudo.sharpness=4", cwd=folder)) == [
        "mcis: warning: pseudo.sharpness has no effect on masks of a network"
    ]


def test_missing_saliency_names_images_and_the_ways_out(call, chain_copy):
    (chain_copy.folder / "shapes/saliency/train-0003.png").unlink()
    before = sealed(chain_copy.folder / ".mcis")
    refused(
        call("pseudo", cwd=chain_copy.folder),
        2,
        "saliency missing for 1 of 16 images (train-0003)",
        "--saliency FOLDER",
        "--background otsu",
        "--allow-missing-saliency",
        "`mcis saliency` makes maps",
    )
    assert sealed(chain_copy.folder / ".mcis") == before
    answer = call("pseudo", "--allow-missing-saliency", cwd=chain_copy.folder)
    assert answer.code == 0
    assert "1 of 16 masks are ignored as a whole: train-0003" in answer.err


def test_saliency_of_another_folder_is_used_without_training_again(call, chain_copy, tmp_path):
    (chain_copy.folder / "shapes/saliency").rename(tmp_path / "elsewhere")
    again = call("cams", cwd=chain_copy.folder)
    assert again.lines == [str(chain_copy.made["cams"].path)]
    assert "cached" in again.err
    answer = call("pseudo", "--saliency", tmp_path / "elsewhere", cwd=chain_copy.folder)
    assert answer.code == 0, answer.err
    assert Path(answer.lines[0]).name == chain_copy.made["pseudo"].path.name


def test_a_folder_that_moved_is_named_and_nothing_is_computed_again(call, chain_copy):
    (chain_copy.folder / "shapes").rename(chain_copy.folder / "moved")
    (chain_copy.folder / "mcis.toml").unlink()
    settings = ["--preset", "quick", "--refs", "2", "--image-size", "64", "--precision", "fp32"]
    maps = chain_copy.made["cams"]
    gone = call("cams", chain_copy.made["train-cls"].id, *settings, "--refs", "1", cwd=chain_copy.folder)
    assert gone.code in (0, 2)  # 0 where the folder of the original is still remembered
    answer = call("cams", chain_copy.made["train-cls"].id, *settings, "--data", "moved", cwd=chain_copy.folder)
    assert answer.lines == [str(maps.path)], answer.err
    assert "cached" in answer.err


@pytest.mark.slow
def test_full_supervision_needs_no_artifact(call, chain):
    arguments = ["--supervision", "full", "--epochs", "1"]
    answer = call("train-seg", *arguments, cwd=chain.folder)
    assert answer.code == 0, answer.err
    scored = call("eval", answer.lines[0], cwd=chain.folder)
    assert "trained on ground truth" in scored.err
    # The configuration may name it as well: then the next stage starts from it.
    settings = ["--set", "train-seg.supervision=full"]
    assert call("eval", *settings, cwd=chain.folder).lines == scored.lines


def test_vgg_weights_that_cannot_be_had_are_one_line_with_both_ways_out(chain, tmp_path):
    proxy = {f"{scheme}_proxy": "http://127.0.0.1:9" for scheme in ("http", "https", "HTTP", "HTTPS")}
    folders = {"TORCH_HOME": str(tmp_path / "torch"), "XDG_DATA_HOME": str(tmp_path / "data"), "no_proxy": ""}
    answer = mcis("train-cls", chain.folder / "shapes", "--preset", "paper", cwd=tmp_path, **proxy, **folders)
    refused(answer, 2, "ImageNet weights of vgg16", "): use lite0, which needs no download", "--weights FILE")
    assert not sealed(tmp_path / ".mcis")
    assert not list((tmp_path / ".mcis").glob("partial/*"))


def test_a_bug_is_one_line_and_1_and_the_trace_is_for_debugging(call, chain, monkeypatch):
    from mcis_cli.stages.cams import run as cams

    def broken(*arguments):
        raise ZeroDivisionError("division by\nzero")

    monkeypatch.setattr(cams, "run_all", broken)
    answer = call("cams", cwd=chain.folder)
    assert answer.code == 1
    assert answer.out == ""
    assert answer.err == "mcis: bug: ZeroDivisionError: division by zero (run again with `mcis --debug` to see where)\n"
    assert "Traceback" in call("--debug", "cams", cwd=chain.folder).err


def test_an_error_has_its_trace_only_on_request(call, tmp_path):
    assert "Traceback" in call("--debug", "cams", cwd=tmp_path).err
    assert "Traceback" not in call("cams", cwd=tmp_path).err


def test_a_table_that_init_left_empty_is_no_setting_to_warn_of(call, chain_copy):
    toml = chain_copy.folder / "mcis.toml"
    toml.write_text(f"{toml.read_text()}\n[pseudo.crf_settings]\n")
    answer = call("pseudo", cwd=chain_copy.folder)
    assert answer.code == 0
    assert "no effect" not in answer.err


def test_a_dry_run_names_what_is_missing(call, chain_copy, monkeypatch):
    folder = chain_copy.folder
    monkeypatch.setenv("TORCH_HOME", str(folder / "nothing"))
    monkeypatch.setenv("XDG_DATA_HOME", str(folder / "nothing"))
    answer = call("train-cls", "--dry-run", "--backbone", "vgg16", cwd=folder)
    assert answer.code == 0
    assert "warning: train-cls: the ImageNet weights of vgg16 are not on this machine" in answer.err
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(folder / "nothing"))
    answer = call("train-cls", "--dry-run", "--backbone", "timm:resnet18", cwd=folder)
    assert answer.code == 0
    assert "warning: train-cls: the weights of resnet18." in answer.err
    (folder / "shapes/saliency/train-0003.png").unlink()
    refused = call("pseudo", "--dry-run", cwd=folder)
    assert refused.code == 2
    assert "mcis: error: pseudo would stop: saliency missing for 1 of 16 images (train-0003)" in refused.err
    (folder / "shapes/SegmentationClass/val-0000.png").unlink()
    answer = call("eval", chain_copy.made["train-seg"].path, "--dry-run", "--json", cwd=folder)
    assert answer.code == 2
    assert "eval would stop: ground truth missing for 1 of 6 images of split 'val' (val-0000)" in answer.err
    assert "ground truth missing" in json.loads(answer.out)["stages"][0]["missing"]
