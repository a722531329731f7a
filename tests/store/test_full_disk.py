"""Disks that are really full, for each stage: files that may not grow, and a small file system."""

import json
import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from run_commands import environment
from sizes import LONG, size
from stage_folders import STAGES, found_done

pytestmark = [pytest.mark.promise, pytest.mark.slow, pytest.mark.heavy]
# What there is room for, of the size of the artifact: from less than a segment to all but the end.
LIMITS = size((0.04, 0.9), (0.01, 0.04, 0.1, 0.2, 0.35, 0.5, 0.65, 0.8, 0.95, 0.999))
REAL_STAGES = size(("cams",), STAGES)  # whose first command is a real one, imports and all
ROOMS = size((0.1, 0.45), (0.0, 0.02, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.75, 1.2))  # of segments and artifact together


def check(place, command, tally, strerror):
    """It failed with one line, left nothing half done, and finishes when it has room."""
    assert command.code == 6, command.err
    assert command.out == ""
    *notes, error = command.err.splitlines()
    assert error.startswith("mcis: error: cannot ")
    assert f": {strerror}; " in error
    assert not [line for line in notes if not line.startswith("mcis: ") or "error" in line], command.err
    assert not command.left_behind()
    place.check_sealed()
    assert not list((place.store / "tmp").iterdir())
    finished = place.finished()
    assert (found_done(place.finish()) or 0) == finished
    tally.count(resumed=finished > 0)


@pytest.mark.parametrize("stage", STAGES)
def test_files_that_may_not_grow_end_a_stage_in_one_line(stage_folders, stage, tmp_path, tally):
    """The limit on the size of files is met by every write there is, those of SQLite and of the interpreter as well."""
    largest = Path(stage_folders.made[stage,]["path"]).stat().st_size
    for number, fraction in enumerate(LIMITS if LONG else LIMITS[STAGES.index(stage) % 2 :][:1]):
        place = stage_folders.copy(stage, tmp_path / str(number))
        real = number == 0 and stage in REAL_STAGES
        command = place.start(limit=max(2048, int(fraction * largest)), real=real)
        command.wait()
        check(place, command, tally, "File too large")
        tally.count(limits=1)
        place.remove()


@pytest.mark.parametrize("stage", STAGES)
def test_a_small_file_system_ends_a_stage_in_one_line(stage_folders, stage, tmp_path, tally):
    """A tmpfs in a namespace of its own; the unfinished work is then moved to a larger disk, and resumes."""
    reason = why_not()
    if reason:
        pytest.skip(f"no file system can be mounted here: {reason}")
    needed = 2 * Path(stage_folders.made[stage,]["path"]).stat().st_size
    for number, fraction in enumerate(ROOMS if LONG else ROOMS[STAGES.index(stage) % 2 :][:1]):
        place = stage_folders.copy(stage, tmp_path / str(number))
        command = Mounted(place, tmp_path / f"{number}-mount", int(fraction * needed))
        tally.count(sizes=1, full=command.code != 0)
        if command.code == 0 and fraction > 0.5:
            assert json.loads(command.out)["id"] == stage_folders.made[stage,]["id"]
            place.check_sealed()
        else:
            check(place, command, tally, "No space left on device")
        place.remove()


class Mounted:
    """A stage that ran in a file system with some bytes of room, and what it left, moved out of there."""

    def __init__(self, place, mount, room):
        mount.mkdir()
        folder = shlex.quote(str(mount))
        self.arguments = [place.stage, "--json", "--workers", "0"]
        script = f"""
            set -e
            mount -t tmpfs tmpfs {folder}
            cp -r . {folder}
            rm -r .mcis
            used=$(df --block-size=1 --output=used {folder} | tail -n 1)
            mount -o remount,size=$((used + {room})) {folder}
            code=0
            (cd {folder}; exec "$@") || code=$?
            cp -r {folder}/.mcis .mcis
            exit $code
        """
        command = [sys.executable, "-m", "mcis_cli", *self.arguments]
        done = subprocess.run(
            ["unshare", "--map-root-user", "--mount", "bash", "-c", script, "bash", *command],
            cwd=place.folder,
            env=environment(),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=600,
        )
        self.code, self.out, self.err = done.returncode, done.stdout, done.stderr

    def left_behind(self):
        return False  # a namespace's processes would have kept `subprocess.run` waiting


def why_not():
    """Why no tmpfs can be mounted here; nothing where it can."""
    if not shutil.which("unshare"):
        return "there is no unshare"
    folder = f"/proc/{os.getpid()}"  # there is one anywhere, and in a namespace of its own it may be covered
    done = subprocess.run(
        ["unshare", "--map-root-user", "--mount", "mount", "-t", "tmpfs", "tmpfs", folder],
        capture_output=True,
        text=True,
    )
    return done.stderr.strip() if done.returncode else ""
