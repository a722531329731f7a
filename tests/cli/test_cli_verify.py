"""`mcis verify`: a line for each damaged file, an exit code, and what it says to people."""

import json

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


def test_damage_is_a_line_on_stdout_and_an_exit_code(call, chain_copy):
    path = chain_copy.made["pseudo"].path
    spoil(path)
    answer = call("verify", cwd=chain_copy.folder)
    assert answer.code == 7
    assert len(answer.lines) == 1
    assert answer.lines[0].startswith(f"damaged {path}: its bytes have the digest ")
    assert answer.err.splitlines()[-1].startswith("mcis: error: ")
    assert answer.err.splitlines()[-1].endswith(f"{path.name}; `mcis verify --repair` makes it again")
    assert call("verify", "--quiet", cwd=chain_copy.folder).err.count("\n") == 1


def test_stages_and_show_that_meet_a_damaged_file_exit_with_4(call, chain_copy):
    spoil(chain_copy.made["cams"].path)
    answer = call("pseudo", "--set", "pseudo.min_foreground=0.5", cwd=chain_copy.folder)
    assert (answer.code, answer.out) == (4, "")
    assert "`mcis verify --repair` makes it again" in answer.err
    rewrite(chain_copy.made["cams"].path, chain_copy.made["cams"].path.read_bytes()[:1000])
    assert call("show", chain_copy.made["cams"].path, cwd=chain_copy.folder).code == 4


def test_some_artifacts_can_be_named(call, chain_copy):
    chain_copy.store.tag("maps", chain_copy.made["cams"])
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
    assert "only what is there can be repaired; copy it anew" in answer.err


def test_what_is_repaired_is_said_and_what_is_kept(call, chain_copy):
    path = chain_copy.made["pseudo"].path
    spoil(path)
    answer = call("verify", "--repair", cwd=chain_copy.folder)
    assert (answer.code, answer.lines) == (0, [f"repaired {path}: made again"])
    kept = chain_copy.folder / ".mcis/damaged"
    assert answer.err.splitlines()[-1].endswith(
        f"; 1 damaged or missing; 1 repaired; the damaged files are kept in {kept}"
    )
    assert call("verify", "--repair", cwd=chain_copy.folder).code == 0


def test_what_cannot_be_repaired_says_what_to_give(call, chain_copy):
    path = chain_copy.made["train-cls"].path
    (chain_copy.folder / "shapes").rename(chain_copy.folder / "moved")
    spoil(path)
    answer = call("verify", "--repair", cwd=chain_copy.folder)
    assert answer.code == 7
    assert answer.lines[0].startswith(f"damaged {path}: its bytes have the digest ")
    assert answer.lines[0].endswith("give the folder with the images as they were with --data")
    answer = call("verify", cwd=chain_copy.folder)
    assert (answer.code, answer.lines) == (7, [f"missing {path}: it was set aside, expected it to be made again"])
    answer = call("verify", "--repair", "--data", "moved", cwd=chain_copy.folder)
    assert (answer.code, answer.lines) == (0, [f"repaired {path}: made again"])


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
    assert answer.code == 0
    assert json.loads(answer.out)["findings"][0]["state"] == "repaired"


def test_names_of_files_are_no_orders_to_a_terminal(call, chain_copy):
    (chain_copy.store.root / "refs/\x1b[31mred").write_bytes(b"")
    answer = call("verify", cwd=chain_copy.folder)
    assert answer.code == 7
    assert "\x1b" not in answer.out + answer.err


def test_verify_wants_a_store(call, tmp_path):
    answer = call("verify", cwd=tmp_path)
    assert (answer.code, answer.out) == (3, "")
    assert list(tmp_path.iterdir()) == []
