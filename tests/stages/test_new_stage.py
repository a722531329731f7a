"""A new stage is its own folder and one line in the list: every command knows it then."""

import json

import pytest
from toy_stage.declaration import AREAS

import mcis_cli.stages
from mcis_cli.errors import DamagedError
from mcis_cli.stages import check, read_records
from mcis_cli.store import open_store


@pytest.fixture
def listed(monkeypatch):
    """The stage has its line in the list."""
    monkeypatch.setattr(mcis_cli.stages, "STAGES", (*mcis_cli.stages.STAGES, AREAS))


def test_without_its_line_nobody_knows_it(call, chain):
    assert "areas" not in call("status", cwd=chain.folder).out
    assert "areas" not in call("run", "--dry-run", cwd=chain.folder).out


def test_a_listed_stage_is_in_status_dry_run_and_why_before_it_is_run(call, chain_copy, listed):
    (row,) = (line for line in call("status", cwd=chain_copy.folder).lines if line.split()[0] == "areas")
    assert row.split() == ["areas", "to", "do", "run", "`mcis", "areas`"]
    answer = call("run", "--dry-run", "--json", cwd=chain_copy.folder)
    planned = json.loads(answer.out)["stages"][-1]
    assert (planned["stage"], planned["artifact"]) == ("areas", None)
    assert planned["why"] == ["nothing of areas was made before"]
    answer = call("show", "--why", "areas", cwd=chain_copy.folder)
    assert (answer.code, answer.out) == (3, "")
    assert "no artifact of areas to compare with" in answer.err


def test_a_listed_stage_is_run_listed_verified_and_collected(call, chain_copy, listed, monkeypatch):
    folder = chain_copy.folder
    answer = call("run", cwd=folder)
    assert answer.code == 0
    made = open_store(folder / ".mcis").get(answer.lines[-1])
    assert made.stage == "areas"
    assert len(list(read_records(made))) == len(chain_copy.made["pseudo"])
    assert ["areas", "done", made.path.stem] in [line.split() for line in call("status", cwd=folder).lines]
    assert json.loads(call("run", "--dry-run", "--json", cwd=folder).out)["stages"][-1]["artifact"] == made.path.stem
    assert call("show", "--why", "areas", cwd=folder).lines == ["nothing differs: the stage is cached"]
    answer = call("show", "--why", "areas", "--set", "pseudo.min_foreground=0.5", cwd=folder)
    assert answer.lines[0].startswith(
        f"inputs.masks: {chain_copy.made['pseudo'].path.stem}, now the result of `mcis pseudo`, not made yet"
    )
    assert made.id[:8] in call("ls", "--stage", "areas", cwd=folder).out
    assert call("verify", cwd=folder).code == 0
    monkeypatch.setenv("_MCIS_COMPLETE", "complete_bash")
    monkeypatch.setenv("COMP_WORDS", "mcis ls --stage ar")
    monkeypatch.setenv("COMP_CWORD", "3")
    assert call(cwd=folder).lines == ["areas"]
    monkeypatch.delenv("_MCIS_COMPLETE")
    assert made.path.stem not in call("gc", "--artifacts", cwd=folder).out
    made.close()
    assert made.path.stem in call("gc", "--artifacts", "--no-keep-config", cwd=folder).out


def test_a_file_under_its_name_that_it_does_not_write_is_refused(chain_copy, listed):
    store = chain_copy.store
    with store.begin(AREAS.recipe({}, {})) as partial:
        partial.write_segment(0, {"counts": ("int64", 1)}, [])
        other = partial.seal({"counts": ("int64", 1)}, 1, chain_copy.made["pseudo"].meta, {})
    with pytest.raises(DamagedError, match="its records have other fields, expected those of areas"):
        check(other)
