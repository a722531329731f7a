"""`examples/correct`: the script runs, and masks are better with what its annotator corrected."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest
from run_commands import environment

EXAMPLE = Path(__file__).parents[2] / "examples" / "correct"


@pytest.mark.slow
def test_the_script_runs_on_fewer_images_and_the_masks_get_better(tmp_path, programs):
    folder = tmp_path / "correct"
    shutil.copytree(EXAMPLE, folder)
    script = folder / "draw.py"
    script.write_text(script.read_text().replace("NUM_TRAIN, NUM_VAL = 60, 20", "NUM_TRAIN, NUM_VAL = 24, 4"))
    done = subprocess.run(
        ["sh", "run.sh"],
        cwd=folder,
        env=environment(PATH=f"{programs}:{Path(shutil.which('python') or 'python').parent}:/usr/bin:/bin"),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=1800,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    made, better, _ = (float(one) for one in re.findall(r"mean +│ +([\d.]+)", done.stdout + done.stderr))
    assert better > made
    assert "expected gain in mean IoU of the classes per image +" in done.stderr
    assert len(list((folder / "sample").iterdir())) == 5
    assert 6 <= len(list((folder / "fixed").iterdir())) <= 11
    assert (folder / "review.html").is_file()
