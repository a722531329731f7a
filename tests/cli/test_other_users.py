"""What another user put into a folder above is not used without a word."""

import os

import pytest

from mcis_cli.cli.session.workspace import open_workspace
from mcis_cli.errors import UsageError


@pytest.fixture
def below(tmp_path, monkeypatch):
    """A folder of ours below one that somebody else put a file and a store into."""
    (tmp_path / "mcis.toml").write_text('preset = "quick"\n')
    (tmp_path / ".mcis").mkdir()
    (tmp_path / "ours").mkdir()
    monkeypatch.chdir(tmp_path / "ours")
    monkeypatch.delenv("MCIS_STORE", raising=False)
    return tmp_path


def test_a_file_or_store_of_another_user_above_is_refused(below, monkeypatch):
    assert open_workspace(store=None).named_preset == "quick"
    monkeypatch.setattr(os, "geteuid", lambda: os.getuid() + 1)
    owner = os.stat(below).st_uid
    if owner == 0:
        os.chown(below / "mcis.toml", 4711, -1)
        os.chown(below / ".mcis", 4711, -1)
    with pytest.raises(UsageError, match=r"mcis\.toml belongs to another user .*--config .*MCIS_TRUST_OTHERS=1"):
        open_workspace(store=None)
    with pytest.raises(UsageError, match=r"\.mcis belongs to another user .*--store"):
        open_workspace(store=None, config=below / "mcis.toml")
    assert open_workspace(store=below / ".mcis", config=below / "mcis.toml").named_preset == "quick"
    monkeypatch.setenv("MCIS_TRUST_OTHERS", "1")
    assert open_workspace(store=None).named_preset == "quick"


def test_the_folder_that_a_command_is_run_in_may_be_anybodys(below, monkeypatch):
    monkeypatch.setattr(os, "geteuid", lambda: os.getuid() + 1)
    monkeypatch.chdir(below)
    assert open_workspace(store=None).named_preset == "quick"
