"""The examples of pipelines: sh and Make run, and so do the commands of dvc.yaml, in its order."""

import json
import shutil
import subprocess
from pathlib import Path

import pytest
from run_commands import environment

PIPELINES = Path(__file__).parents[2] / "examples" / "pipelines"
RESULTS = {"build/scores.json", "build/report.html", "build/masks/labelmap.txt"}


@pytest.fixture
def run(chain_copy, programs):
    """Runs a command in a folder that has the examples, a configuration, and `mcis` on the path."""
    shutil.copytree(PIPELINES, chain_copy.folder, dirs_exist_ok=True)

    def call(*command: str, code: int = 0) -> None:
        done = subprocess.run(
            command,
            cwd=chain_copy.folder,
            env=environment(PATH=f"{programs}:/usr/local/bin:/usr/bin:/bin"),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=1800,
        )
        assert done.returncode == code, done.stdout + done.stderr

    return call


def check_results(folder: Path) -> None:
    assert all((folder / name).is_file() for name in RESULTS)
    scores = json.loads((folder / "build/scores.json").read_text())
    assert scores["stage"] == "eval"
    assert scores["cached"] is True  # the result is that of mcis.toml
    assert 0 <= scores["metrics"]["mean_iou"] <= 1


@pytest.mark.slow
def test_the_script_runs(run, chain_copy):
    run("sh", "-eu", "pipeline.sh")
    check_results(chain_copy.folder)
    assert chain_copy.store.get("latest").id == chain_copy.made["train-seg"].id


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("make") is None, reason="no make here")
def test_make_runs_and_then_has_nothing_to_do(run, chain_copy):
    run("make")
    check_results(chain_copy.folder)
    run("make", "--question")
    with (chain_copy.folder / "shapes/image_tags.txt").open("a") as tags:
        tags.write("\n")
    run("make", "--question", code=1)  # a tag may have changed
    run("make")
    run("make", "--question")
    (chain_copy.folder / "build/maps").unlink()
    run("make", "build/pseudo-masks")
    written = (chain_copy.folder / "build/pseudo-masks").read_text().strip()
    assert written == str(chain_copy.made["pseudo"].path)


@pytest.mark.slow
def test_a_set_without_ground_truth_ends_with_masks_and_a_page_and_says_that_there_are_no_scores(run, chain_copy):
    shutil.rmtree(chain_copy.folder / "shapes/SegmentationClass")
    run("sh", "-eu", "pipeline.sh")
    assert all((chain_copy.folder / name).is_file() for name in RESULTS)
    assert json.loads((chain_copy.folder / "build/scores.json").read_text()) == {"metrics": None}


@pytest.mark.slow
def test_another_fault_of_the_scores_is_one_and_leaves_no_file(run, chain_copy):
    run("sh", "scores.sh", "gone", "scores.json", code=3)
    run("sh", "scores.sh", chain_copy.made["train-cls"].id, "scores.json", code=2)
    assert not list(chain_copy.folder.glob("scores.json*"))


def stages() -> dict[str, dict]:
    yaml = pytest.importorskip("yaml")
    return yaml.safe_load((PIPELINES / "dvc.yaml").read_text())["stages"]


def made_by(stage: dict) -> set[str]:
    """The files that a stage says it writes."""
    outs = [*stage.get("outs", ()), *stage.get("metrics", ())]
    return {name for out in outs for name in ([out] if isinstance(out, str) else out)}


def test_each_file_that_a_stage_of_dvc_reads_is_made_by_one_before_it_or_is_there():
    made = {"mcis.toml", "scores.sh", "files.sh", "${data}"}
    for stage in stages().values():
        assert set(stage["deps"]) <= made
        assert all(name in stage["cmd"] for name in made_by(stage))
        made |= made_by(stage)


@pytest.mark.slow
def test_the_commands_of_dvc_run_in_their_order(run, chain_copy):
    for stage in stages().values():
        run("sh", "-c", stage["cmd"])
        assert all((chain_copy.folder / name).exists() for name in made_by(stage))
    check_results(chain_copy.folder)
