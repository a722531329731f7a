"""`mcis verify`: a line for each damaged file, an exit code, and what it says to people."""

import json
from pathlib import Path

import pytest
from repairs import commands_of, make_again
from store_makers import rewrite


def spoil(path):
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    rewrite(path, bytes(data))


def test_a_store_that_is_well_prints_nothing(call, chain):
    answer = call("verify", cwd=chain.folder)
    assert (answer.code, answer.out) == (0, "")
    assert answer.err.startswith("mcis: ")
    assert answer.err.endswith("; all as they were sealed\n")
    assert call("verify", "--quiet", cwd=chain.folder).err == ""


@pytest.mark.slow
def test_damage_is_a_line_on_stdout_and_an_exit_code(call, chain_copy):
    path = chain_copy.made["pseudo"].path
    spoil(path)
    answer = call("verify", cwd=chain_copy.folder)
    assert answer.code == 7
    assert len(answer.lines) == 1
    assert answer.lines[0].startswith(f"damaged {path}: its bytes have the digest ")
    assert answer.err.splitlines()[-1].startswith("mcis: error: ")
    assert answer.err.splitlines()[-1].endswith(f"{path.name}; `mcis verify --repair` prints how to make it again")
    assert call("verify", "--quiet", cwd=chain_copy.folder).err.count("\n") == 1


def test_stages_and_show_that_meet_a_damaged_file_exit_with_4(call, chain_copy):
    spoil(chain_copy.made["cams"].path)
    answer = call("pseudo", "--set", "pseudo.min_foreground=0.5", cwd=chain_copy.folder)
    assert (answer.code, answer.out) == (4, "")
    assert "`mcis verify --repair` sets it aside and prints how to make it again" in answer.err
    rewrite(chain_copy.made["cams"].path, chain_copy.made["cams"].path.read_bytes()[:1000])
    assert call("show", chain_copy.made["cams"].path, cwd=chain_copy.folder).code == 4


def test_some_artifacts_can_be_named(call, chain_copy):
    chain_copy.store.name("maps", chain_copy.made["cams"])
    spoil(chain_copy.made["pseudo"].path)
    answer = call(
        "verify", "maps", chain_copy.made["train-cls"].id[:8], chain_copy.made["eval"].path, cwd=chain_copy.folder
    )
    assert (answer.code, answer.out) == (0, "")
    assert answer.err.startswith("mcis: 3 files, ")
    assert call("verify", chain_copy.made["pseudo"].path.stem, cwd=chain_copy.folder).code == 7
    answer = call("verify", "deadbeef", cwd=chain_copy.folder)
    assert (answer.code, answer.out) == (3, "")


def test_a_copy_elsewhere_can_be_checked_and_not_repaired(call, chain_copy):
    copy = chain_copy.folder / "copy.h5"
    copy.write_bytes(chain_copy.made["pseudo"].path.read_bytes())
    assert call("verify", copy, cwd=chain_copy.folder).code == 0
    spoil(copy)
    assert call("verify", copy, cwd=chain_copy.folder).lines[0].startswith(f"damaged {copy}: ")
    answer = call("verify", copy, "--repair", cwd=chain_copy.folder)
    assert answer.code == 2
    assert "only files in that folder can be repaired; copy the file again" in answer.err


@pytest.mark.slow
def test_a_damaged_artifact_is_set_aside_and_the_command_is_printed(call, chain_copy):
    path = chain_copy.made["pseudo"].path
    spoil(path)
    answer = call("verify", "--repair", cwd=chain_copy.folder)
    assert answer.code == 7
    (line,) = answer.lines
    maps = chain_copy.made["cams"].id[:12]
    assert line.startswith(f"damaged {path}: its bytes have the digest ")
    assert line.endswith(f"; set aside; make it again with `mcis pseudo {maps} --preset quick`")
    kept = chain_copy.folder / ".mcis/damaged"
    assert f"; 1 damaged or missing; 0 repaired; the damaged files are kept in {kept}" in answer.err
    answer = call("verify", cwd=chain_copy.folder)
    assert (answer.code, answer.lines) == (7, [f"missing {path}: it was set aside, expected it to be made again"])


@pytest.mark.slow
@pytest.mark.parametrize("stages", [("dataset", "pseudo", "eval"), ("train-cls",), ("cams", "train-seg")])
def test_the_printed_commands_make_the_same_artifacts(call, chain_copy, one_thread, stages):
    paths = {stage: artifact.path for stage, artifact in chain_copy.made.items()}
    (paths["dataset"],) = (chain_copy.store.root / "artifacts").glob("dataset-*.h5")
    for stage in stages:
        spoil(paths[stage])
    commands = make_again(call, chain_copy.folder)
    assert {command[0].replace("check", "dataset") for command in commands} == set(stages)
    assert all(path.exists() for path in paths.values())


@pytest.mark.slow
def test_settings_that_differ_from_what_the_folder_has_are_in_the_command(call, chain_copy, one_thread):
    made = call("pseudo", "--foreground-threshold", "0.4", "--no-crf", cwd=chain_copy.folder)
    spoil(Path(made.lines[0]))
    ((*words,),) = make_again(call, chain_copy.folder)
    assert "pseudo.foreground_threshold=0.4" in words


def test_images_that_are_not_known_are_a_placeholder(call, chain_copy):
    (chain_copy.folder / "shapes").rename(chain_copy.folder / "moved")
    spoil(chain_copy.made["train-cls"].path)
    (words,) = commands_of(call("verify", "--repair", "--json", cwd=chain_copy.folder))
    assert words[:2] == ["train-cls", "FOLDER"]


def test_one_object_tells_all(call, chain_copy):
    path = chain_copy.made["pseudo"].path
    spoil(path)
    answer = call("verify", "--json", cwd=chain_copy.folder)
    assert answer.code == 7
    found = json.loads(answer.out)
    assert found["files"] == 13
    ((one),) = found["findings"]
    assert one["fault"].startswith("its bytes have the digest ")
    assert {**one, "fault": ""} == {"path": str(path), "kind": "artifact", "state": "damaged", "fault": "", "how": None}
    answer = call("verify", "--json", "--repair", cwd=chain_copy.folder)
    assert answer.code == 7
    assert json.loads(answer.out)["findings"][0]["how"].startswith("set aside; make it again with `mcis pseudo ")


def test_names_of_files_are_no_orders_to_a_terminal(call, chain_copy):
    (chain_copy.store.root / "refs/\x1b[31mred").write_bytes(b"")
    answer = call("verify", cwd=chain_copy.folder)
    assert answer.code == 7
    assert "\x1b" not in answer.out + answer.err


def test_verify_wants_a_store(call, tmp_path):
    answer = call("verify", cwd=tmp_path)
    assert (answer.code, answer.out) == (3, "")
    assert list(tmp_path.iterdir()) == []
