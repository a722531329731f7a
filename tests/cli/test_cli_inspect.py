"""`mcis ls`, `show` and `status`: what is in a store, and what is left to do."""

import json
import re
import shutil

import pytest
from terminals import on_terminal
from tiny_chain import begin_with

from mcis_cli.store import open_store

STAGES = ("train-cls", "cams", "pseudo", "train-seg", "eval")


def test_every_artifact_has_a_line(call, chain_copy):
    store = open_store(chain_copy.folder / ".mcis")
    store.name("best", chain_copy.made["train-seg"])
    answer = call("ls", cwd=chain_copy.folder)
    assert answer.code == 0
    assert answer.err == ""
    rows = {line.split()[1]: line.split() for line in answer.lines[1:]}
    assert rows.keys() == {artifact.id[:8] for artifact in store.artifacts()}
    assert answer.lines[0].split() == ["stage", "id", "age", "images", "preset", "refs", "loss", "score", "name"]
    made = {stage: rows[chain_copy.made[stage].id[:8]] for stage in STAGES}
    assert all(made[stage][0] == stage for stage in STAGES)
    assert made["train-seg"][-1] == "best"
    assert made["train-seg"][-2] == made["eval"][-1]  # its score
    assert made["cams"][4:] == ["16", "quick", "2"] or made["cams"][-1] == "2"


def test_the_loss_of_a_training_is_that_of_the_last_lines_of_its_log(call, chain_copy):
    """However long the log is: a hole of a quarter of a gigabyte is not read."""
    log = chain_copy.made["train-seg"].log_path
    log.chmod(0o644)
    with open(log, "r+b") as file:
        file.truncate(2**28)
        file.seek(0, 2)
        file.write(b'\n{"step":99999,"total":7.25,"lr":0.1}\n')
    (row,) = [line for line in call("ls", cwd=chain_copy.folder).lines if line.startswith("train-seg")]
    assert "7.25" in row.split()


def test_what_ls_prints_names_an_artifact_in_every_form(call, chain_copy):
    made = chain_copy.made["pseudo"]
    for name in (made.id[:8], f"pseudo-{made.id[:8]}", made.path.stem, made.path.name, "pseudo"):
        assert call("show", name, cwd=chain_copy.folder).lines[0] == made.path.stem
        assert call("verify", name, cwd=chain_copy.folder).code == 0
    assert call("show", f"cams-{made.id[:8]}", cwd=chain_copy.folder).code == 3


def test_a_stage_can_be_listed_alone_and_as_json(call, chain_copy):
    answer = call("ls", "--stage", "cams", "--json", cwd=chain_copy.folder)
    found = [json.loads(line) for line in answer.lines]
    assert {one["stage"] for one in found} == {"cams"}
    made = chain_copy.made["cams"]
    (own,) = [one for one in found if one["id"] == made.id]
    assert own["path"] == str(made.path)
    assert own["bytes"] == made.path.stat().st_size
    assert own["name"] is None


def test_a_damaged_artifact_does_not_hide_the_others(call, chain_copy):
    path = chain_copy.made["pseudo"].path
    path.chmod(0o644)
    path.write_bytes(path.read_bytes()[:100])
    answer = call("ls", cwd=chain_copy.folder)
    assert answer.code == 4
    assert path.name in answer.err
    assert answer.err.count("\n") == 1
    listed = {line.split()[1] for line in answer.lines}
    assert chain_copy.made["cams"].id[:8] in listed
    assert chain_copy.made["pseudo"].id[:8] not in listed


def test_an_artifact_is_shown_with_settings_inputs_and_how_it_was_made(call, chain):
    made = chain.made["cams"]
    answer = call("show", made.id[:10], cwd=chain.folder)
    assert answer.code == 0
    assert answer.lines[0] == made.path.stem
    shown = {line.split()[0]: line.split(maxsplit=1)[1] for line in answer.lines if len(line.split()) > 1}
    assert shown["id"] == made.id
    assert shown["key"] == made.key
    assert shown["classifier"] == chain.made["train-cls"].id
    assert shown["refs"] == "2"
    assert shown["num_references"] == "2"
    assert shown["classes"] == "3: disc, star, square"
    assert shown["preset"] == "quick"


def test_the_whole_manifest_is_one_object(call, chain):
    answer = call("show", chain.made["eval"].path, "--json", cwd=chain.folder)
    assert json.loads(answer.out) == chain.made["eval"].manifest


def test_an_evaluation_is_shown_with_its_scores(call, chain):
    answer = call("show", chain.made["eval"].id, cwd=chain.folder)
    assert answer.code == 0
    assert "segmentation network, split val" in answer.err
    assert "background" in answer.err


@pytest.mark.parametrize(
    ("reference", "code", "part"),
    [
        ("deadbeef", 3, "no artifact has an id that starts with deadbeef"),
        ("nothing", 3, "no artifact 'nothing'"),
        ("../mcis.toml", 3, "no artifact"),
    ],
)
def test_what_is_not_there_cannot_be_shown(call, chain, reference, code, part):
    answer = call("show", reference, cwd=chain.folder / "shapes")
    assert answer.code in (code, 4)  # a file that is no artifact counts as a damaged one
    assert answer.out == ""
    assert answer.err.startswith("mcis: error: ")
    assert answer.err.count("\n") == 1
    assert part in answer.err or answer.code == 4


def test_status_of_a_chain_that_is_done(call, chain):
    answer = call("status", cwd=chain.folder)
    assert answer.code == 0
    rows = {line.split()[0]: line.split()[1:] for line in answer.lines[1:]}
    assert rows == {stage: ["done", chain.made[stage].path.stem] for stage in STAGES}
    assert answer.err == f"{chain.folder / 'mcis.toml'}\n"


def test_status_says_what_is_to_do_and_what_waits(call, chain):
    answer = call("status", "--set", "pseudo.min_foreground=0.123", cwd=chain.folder)
    rows = [line.split() for line in answer.lines[1:]]
    assert [row[:2] for row in rows] == [
        ["train-cls", "done"],
        ["cams", "done"],
        ["pseudo", "to"],
        ["train-seg", "waits"],
        ["eval", "waits"],
    ]
    assert "run `mcis pseudo`" in answer.lines[3]


def test_status_sees_how_far_work_is_that_was_begun(call, chain_copy):
    with begin_with(chain_copy, "pseudo", min_foreground=0.123) as partial:
        (partial.folder / "segment-000000.h5").write_bytes(b"something")
        answer = call("status", "--set", "pseudo.min_foreground=0.123", cwd=chain_copy.folder)
    assert "run `mcis pseudo`, which resumes from 1 of 1 segment" in answer.out
    with begin_with(chain_copy, "train-cls", seed=9) as partial:
        partial.save_checkpoint(12, b"state")
        answer = call("status", "--set", "train-cls.seed=9", cwd=chain_copy.folder)
    assert "run `mcis train-cls`, which resumes from step 12 of" in answer.out
    answer = call("status", "--set", "train-cls.seed=10", cwd=chain_copy.folder)
    assert "goes on" not in answer.out


def test_status_can_tell_by_its_exit_code(call, chain):
    assert call("status", "--exit-code", cwd=chain.folder).code == 0
    answer = call("status", "--exit-code", "--set", "pseudo.min_foreground=0.123", cwd=chain.folder)
    assert answer.code == 7
    assert answer.err == f"{chain.folder / 'mcis.toml'}\n"
    assert call("status", "--set", "pseudo.min_foreground=0.123", cwd=chain.folder).code == 0


def test_a_chain_that_ends_before_its_scores_is_done_without_ground_truth(call, chain_copy):
    (chain_copy.folder / "shapes/SegmentationClass").rename(chain_copy.folder / "elsewhere")
    answer = call("status", "--exit-code", cwd=chain_copy.folder)
    assert answer.code == 0
    assert answer.lines[-1].split()[:3] == ["eval", "left", "out"]


def test_commands_that_only_look_make_no_store(call, tmp_path):
    for arguments in (["ls"], ["status"], ["show", "abcdef0123"]):
        answer = call(*arguments, cwd=tmp_path)
        assert answer.code in (0, 2, 3)
        assert answer.out == ""
    assert not list(tmp_path.iterdir())
    assert "`mcis init DATA` writes it" in call("status", cwd=tmp_path).err


def everything(folder):
    return {path: (path.stat().st_mtime_ns, path.read_bytes()) for path in folder.rglob("*") if path.is_file()}


def test_status_and_why_write_nothing(call, chain_copy):
    index = chain_copy.folder / ".mcis/facts"
    for is_there in (True, False):  # what is remembered of files may be deleted at any time
        if not is_there:
            index.unlink(missing_ok=True)
        (chain_copy.folder / "shapes/new.txt").write_text("changed")
        (chain_copy.folder / "shapes/image_tags.txt").touch()
        before = everything(chain_copy.folder)
        assert call("status", cwd=chain_copy.folder).code == 0
        assert call("show", "--why", "cams", cwd=chain_copy.folder).code == 0
        assert everything(chain_copy.folder) == before


def test_status_of_a_folder_without_a_store_makes_none(call, chain_copy):
    shutil.rmtree(chain_copy.folder / ".mcis")
    answer = call("status", cwd=chain_copy.folder)
    assert answer.code == 0
    assert [line.split()[:3] for line in answer.lines[1:3]] == [["train-cls", "to", "do"], ["cams", "waits"]]
    assert not (chain_copy.folder / ".mcis").exists()


@pytest.mark.parametrize("has_store", [True, False])
def test_status_leaves_out_what_full_supervision_does_not_need(call, chain_copy, has_store):
    if not has_store:
        shutil.rmtree(chain_copy.folder / ".mcis")
    answer = call("status", "--set", "train-seg.supervision=full", cwd=chain_copy.folder)
    states = [" ".join(line.split()[1:3]) for line in answer.lines[1:6]]
    assert states == ["left out", "left out", "left out", "to do", "waits"]


def test_scores_that_nothing_can_make_are_left_out_while_they_wait(call, chain_copy):
    (chain_copy.folder / "shapes/SegmentationClass").rename(chain_copy.folder / "elsewhere")
    answer = call("status", "--set", "pseudo.min_foreground=0.123", cwd=chain_copy.folder)
    assert [" ".join(line.split()[1:3]) for line in answer.lines[-2:]] == ["waits", "left out"]


@pytest.mark.parametrize(("command", "columns"), [("ls", 80), ("ls", 40), ("status", 80), ("status", 40)])
def test_tables_fit_a_terminal_and_keep_what_a_row_is(chain, command, columns):
    code, text = on_terminal("-m", "mcis_cli", command, columns=columns, cwd=chain.folder)
    assert code == 0
    lines = [re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", line) for line in text.splitlines()]
    # Paths and ids are never cut, because they are copied.
    assert max(len(line) for line in lines if "/" not in line) <= max(
        columns, len(" train-seg  done   train-seg-fb1e07f0b451 ")
    )
    for stage in STAGES:
        assert any(stage in line and chain.made[stage].id[:8] in line for line in lines), (stage, lines)
