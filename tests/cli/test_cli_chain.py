"""The whole chain as users type it: one line of shell, five commands in a folder, and `mcis run`."""

import json
from pathlib import Path

import pytest
from image_sets import encode, photo
from run_commands import mcis, shell
from tiny_chain import SMALL, TOML, sealed, write_shapes

STAGES = ("train-cls", "cams", "pseudo", "train-seg", "eval")
LINE = " | ".join(
    (
        "mcis train-cls shapes --preset quick " + " ".join(SMALL["train-cls"]),
        "mcis cams --refs 3 " + " ".join(SMALL["cams"]),
        "mcis pseudo",
        "mcis train-seg " + " ".join(SMALL["train-seg"]),
        "mcis eval --crf",
    )
)


@pytest.mark.slow
def test_one_line_of_shell_goes_from_tags_to_scores(tmp_path):
    write_shapes(tmp_path / "shapes")
    first = shell(LINE, cwd=tmp_path)
    assert first.code == 0, first.err
    (path,) = first.lines
    assert Path(path).is_file()
    assert Path(path).name.startswith("eval-")
    assert "Traceback" not in first.err
    assert "Warning" not in first.err
    for stage in STAGES:
        assert f"mcis: {stage}: done in " in first.err
    # The preset was named to the first command alone: the others have it of what they start from.
    assert "mcis: preset quick, as train-cls-" in first.err
    assert "with CRF" in first.err
    assert "split val" in first.err
    assert not list((tmp_path / ".mcis/partial").iterdir())

    before = sealed(tmp_path / ".mcis")
    second = shell(LINE, cwd=tmp_path)
    assert second.code == 0, second.err
    assert second.lines == [path]
    for stage in STAGES:
        assert f"mcis: {stage}: cached, " in second.err
    assert sealed(tmp_path / ".mcis") == before


@pytest.mark.slow
def test_a_line_of_shell_fails_as_a_whole_where_its_first_command_fails(tmp_path):
    answer = shell("mcis train-cls nowhere | mcis cams | mcis pseudo", cwd=tmp_path)
    assert answer.code == 3
    assert answer.out == ""
    errors = [line for line in answer.err.splitlines() if line.startswith("mcis: error: ")]
    assert len(errors) == len(answer.err.splitlines()) == 3
    assert any(line.startswith("mcis: error: nowhere does not exist: expected a folder of images") for line in errors)
    assert not sealed(tmp_path / ".mcis")


@pytest.mark.slow
def test_five_commands_without_arguments_in_a_folder_with_a_configuration(tmp_path):
    write_shapes(tmp_path / "shapes")
    (tmp_path / "mcis.toml").write_text(TOML)
    (tmp_path / "below").mkdir()
    for stage in STAGES:
        answer = mcis(stage, cwd=tmp_path / "below")
        assert answer.code == 0, answer.err
        (path,) = answer.lines
        assert Path(path).parent == tmp_path / ".mcis/artifacts"
        assert f"mcis: {stage}: done in " in answer.err
    assert not list((tmp_path / "below").iterdir())


def test_each_command_finds_its_artifact_and_computes_nothing(call, chain):
    before = sealed(chain.folder / ".mcis")
    for stage in STAGES:
        answer = call(stage, cwd=chain.folder)
        assert answer.code == 0
        assert answer.lines == [str(chain.made[stage].path)]
        assert f"mcis: {stage}: cached, {chain.made[stage].path.stem}" in answer.err
    assert sealed(chain.folder / ".mcis") == before


def test_the_whole_chain_is_one_command(call, tmp_path):
    write_shapes(tmp_path / "shapes")
    (tmp_path / "mcis.toml").write_text(TOML)
    first = call("run", "--json", "--workers", "0", cwd=tmp_path)
    assert first.code == 0, first.err
    found = json.loads(first.out)
    assert found["stage"] == "eval"
    assert found["cached"] is False
    assert found["seconds"] > 0
    assert set(found["metrics"]["iou"]) == {"background", "disc", "star", "square"}
    assert "segmentation network, split val" in first.err
    for number, stage in enumerate(STAGES, start=1):
        assert f"mcis: {number}/5 {stage}: runs: nothing of {stage} was made before" in first.err
    assert "mcis: pseudo masks: pseudo-" in first.err
    assert "next:" not in first.err

    before = sealed(tmp_path / ".mcis")
    second = call("run", "-q", cwd=tmp_path)
    assert second.lines == [found["id"]]
    assert second.err == ""
    third = call("run", "--json", cwd=tmp_path)
    assert json.loads(third.out)["cached"] is True
    assert "mcis: 5/5 eval: cached, eval-" in third.err
    assert sealed(tmp_path / ".mcis") == before


@pytest.mark.slow
def test_a_terminal_shows_what_to_do_next_after_each_result(call, chain_copy, monkeypatch):
    folder = chain_copy.folder
    ids = {stage: artifact.id[:8] for stage, artifact in chain_copy.made.items()}
    masks, network = f"pseudo-{ids['pseudo']}", f"train-seg-{ids['train-seg']}"
    commands: dict[tuple[str, ...], str] = {
        ("check", "shapes"): "`mcis run` runs all stages",
        ("init", "shapes", "--force"): "`mcis run` runs all stages, `mcis train-cls` the first one",
        ("cams", "--config", "chain.toml"): f"`mcis pseudo cams-{ids['cams']}` makes pseudo masks, `mcis report cams-",
        ("run", "--config", "chain.toml"): "`mcis report` shows images, masks and scores in a browser, "
        f"`mcis export {masks} --voc -o masks` writes the masks",
        ("name", "best", network): "`mcis predict best photos/` writes masks of photographs, `mcis eval best` scores",
        ("export", masks, "--voc"): f"`mcis report {masks}` shows the masks, `mcis train-seg {masks}` trains a network",
        ("predict", network, "shapes/JPEGImages/val-0000.jpg"): "with --overlay, the command also draws each mask over",
        ("report", masks, "--no-attention", "--no-predictions"): "open report.html in a browser",
    }
    (folder / "chain.toml").write_text((folder / "mcis.toml").read_text())
    for command in commands:
        answer = call(*command, cwd=folder)
        assert (answer.code, "next:" in answer.err) == (0, False), answer.err
    monkeypatch.setattr("mcis_cli.cli.terminal.output.is_watched", lambda: True)
    for command, step in commands.items():
        answer = call(*command, *(["--force"] if command[0] == "export" else []), cwd=folder)
        assert f"mcis: next: {step}" in answer.err.splitlines()[-1], answer.err
    (folder / "mcis.toml").unlink()
    assert (
        "mcis: next: `mcis init shapes` writes mcis.toml for these images\n" in call("check", "shapes", cwd=folder).err
    )


@pytest.mark.slow
def test_full_supervision_runs_the_network_and_its_scores_alone(call, tmp_path):
    write_shapes(tmp_path / "shapes")
    (tmp_path / "mcis.toml").write_text(TOML.replace("[train-seg]\n", '[train-seg]\nsupervision = "full"\n'))
    answer = call("run", "--json", "--workers", "0", cwd=tmp_path)
    assert answer.code == 0, answer.err
    assert json.loads(answer.out)["metrics"]["supervision"] == "full"
    made = {path.name.rpartition("-")[0] for path in (tmp_path / ".mcis/artifacts").glob("*.h5")}
    assert made == {"dataset", "train-seg", "eval"}


def test_a_chain_without_images_is_refused(call, tmp_path):
    answer = call("run", cwd=tmp_path)
    assert answer.code == 2
    assert answer.out == ""
    assert "no images are named: expected [data] root in mcis.toml; `mcis init DATA` writes it" in answer.err


def test_whoever_reads_stdout_may_leave(chain):
    answer = shell("mcis ls | true", cwd=chain.folder)
    assert (answer.code, answer.err) == (0, "")


@pytest.mark.slow
def test_a_table_of_tags_with_absent_saliency_runs_with_a_constant_background(call, tmp_path):
    """An own folder of photographs: no VOC layout, no masks, no saliency, names that are not plain."""
    names = ["été 1.jpg", "ßtraße.png", "b.png", "c.png", "d.png", "e.png"]
    folder = tmp_path / "own photos"
    folder.mkdir()
    for seed, name in enumerate(names):
        (folder / name).write_bytes(encode(photo(seed, 40, 50), "JPEG" if name.endswith("jpg") else "PNG"))
    rows = [f"{name},{'Katze' if number % 2 else 'Katze;Bär'}" for number, name in enumerate(names)]
    (folder / "tags.csv").write_text("image,tags\n" + "\n".join(rows) + "\n", encoding="utf-8")
    assert call("init", "own photos", "--preset", "quick", cwd=tmp_path).code == 0
    settings = [*SMALL["train-cls"], "--set", "train-cls.precision=fp32"]
    assert call("train-cls", *settings, cwd=tmp_path).code == 0
    classifier = next((tmp_path / ".mcis/artifacts").glob("train-cls-*.h5"))
    maps = call("cams", classifier, "--image-size", "64", cwd=tmp_path)
    assert maps.code == 0, maps.err
    masks = call("pseudo", maps.lines[0], cwd=tmp_path)
    assert masks.code == 0, masks.err
    network = call("train-seg", masks.lines[0], *SMALL["train-seg"], cwd=tmp_path)
    assert network.code == 0, network.err
    scores = call("eval", network.lines[0], cwd=tmp_path)
    assert scores.code == 2
    assert "ground truth missing for 6 of 6 images of split 'train'" in scores.err
    assert call("predict", network.lines[0], "own photos/été 1.jpg", cwd=tmp_path).lines == ["masks/été 1.png"]
