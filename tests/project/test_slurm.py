"""The Slurm examples, with a stand-in for Slurm: jobs run at once, one after the other, a node and two tasks each."""

import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from run_commands import environment

from mcis_cli.store import open_store

SLURM = Path(__file__).parents[2] / "examples" / "slurm"
SBATCH = """\
#!/bin/bash
set -e
while [[ $1 == --* ]]; do shift; done
echo $RANDOM
export SLURM_JOB_ID=7 SLURM_NNODES=1 SLURM_NTASKS=2 SLURM_PROCID=0 SLURM_JOB_NODELIST=localhost
tasks=(none)
grep -q '#SBATCH --array=0-7' "$1" && tasks=(0 1)
for task in "${tasks[@]}"; do
  if [ $task != none ]; then
    export SLURM_ARRAY_TASK_ID=$task SLURM_ARRAY_TASK_COUNT=2 SLURM_ARRAY_TASK_MIN=0 SLURM_ARRAY_TASK_MAX=1
  fi
  bash "$@" >> jobs.txt 2>> errors.txt
done
"""


@pytest.mark.parametrize("script", sorted(SLURM.glob("*.s*")), ids=lambda path: path.name)
def test_scripts_are_bash(script):
    subprocess.run(["bash", "-n", str(script)], check=True)


@pytest.fixture
def slurm(tmp_path, programs):
    """A folder of stand-ins, to be the first on the path."""
    python = shlex.quote(sys.executable)
    commands = {
        "sbatch": SBATCH,
        "srun": '#!/bin/bash\nwhile [[ $1 == --* ]]; do shift; done\nexec "$@"\n',
        "scontrol": "#!/bin/bash\necho localhost\n",
        "torchrun": f'#!/bin/bash\nexec {python} -m torch.distributed.run "$@"\n',
    }
    folder = tmp_path / "bin"
    folder.mkdir()
    for name, text in commands.items():
        (folder / name).write_text(text)
        (folder / name).chmod(0o755)
    (folder / "mcis").symlink_to(programs / "mcis")
    return folder


@pytest.mark.slow
def test_the_chain_of_jobs_runs(chain, slurm, tmp_path):
    toml = (chain.folder / "mcis.toml").read_text().replace('"shapes"', f'"{chain.folder / "shapes"}"')
    toml = toml.replace("[train-cls]", "[train-cls]\nprocesses = 2").replace(
        "[train-seg]", "[train-seg]\nprocesses = 2"
    )
    toml += '\n[pseudo]\nbackground = "constant"\n'
    (tmp_path / "mcis.toml").write_text(toml)
    settings = environment(PATH=f"{slurm}:/usr/bin:/bin", PROCESSES_PER_NODE="2", PORT="0")
    done = subprocess.run([str(SLURM / "submit.sh")], cwd=tmp_path, env=settings, capture_output=True, text=True)
    said = (tmp_path / "errors.txt").read_text()
    assert done.returncode == 0, done.stderr + said
    store = open_store(tmp_path / ".mcis", create=False)
    made = {artifact.stage: artifact for artifact in store.artifacts()}
    assert {"train-cls", "cams", "pseudo", "train-seg", "eval"} <= made.keys()
    assert made["train-cls"].meta["processes"] == made["train-seg"].meta["processes"] == 2
    assert "mcis: cams: --shard 1/2, by SLURM_ARRAY_TASK_ID" in said
    lines = (tmp_path / "jobs.txt").read_text().splitlines()
    assert {Path(line).name.rpartition("-")[0] for line in lines} == made.keys() - {"dataset"}
