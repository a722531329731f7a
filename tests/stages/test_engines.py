"""Engines: whoever computes the segments of a stage, and whoever is killed meanwhile, the artifact is the same."""

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
import small_segments
from run_commands import environment
from tiny_chain import options

from mcis_cli.data.loading import WorkerDiedError
from mcis_cli.errors import DataError, UsageError
from mcis_cli.stages.engine import engines
from mcis_cli.stages.engine.inputs import Inputs
from mcis_cli.store import open_store, segments

NUMBERS = 64 * 6 + 10  # seven segments
STAGES = (("train-cls", "cams"), ("cams", "pseudo"), ("train-seg", "eval"))
RUN = {"cams": small_segments.map_images, "pseudo": small_segments.make_masks, "eval": small_segments.score}


@pytest.fixture
def small(monkeypatch):
    """Segments of three images here, and in worker processes that are started now."""
    monkeypatch.setenv("MCIS_SMALL_SEGMENTS", "1")
    monkeypatch.setattr(segments, "SEGMENT_SIZE", small_segments.SIZE)


@pytest.fixture
def engine(monkeypatch):
    """Runs `use(options)` with an engine of two processes of a thread each."""
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    helpers = str(Path(small_segments.__file__).parent)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([helpers, os.environ.get("PYTHONPATH", "")]))

    def run(name, use, **given):
        if name == "ray":
            pytest.importorskip("ray")
        with engines.opened(name, options(**{"workers": 2, "preset": "quick", **given})) as ready:
            return use(ready)

    return run


def numbers(store, notes, pause=0.0):
    return lambda ready: small_segments.write_numbers((NUMBERS, pause, str(notes)), None, store, ready)


def by(notes):
    """The process that computed each segment."""
    return [line.split() for line in notes.read_text().splitlines()]


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """The id of what this process makes alone."""
    folder = tmp_path_factory.mktemp("whole")
    return numbers(open_store(folder / ".mcis"), folder / "notes")(options()).id


@pytest.mark.parametrize("name", ["processes", "ray"])
def test_other_processes_compute_each_segment_once_and_this_one_seals(engine, whole, tmp_path, name):
    store, notes = open_store(tmp_path / ".mcis"), tmp_path / "notes"
    assert engine(name, numbers(store, notes)).id == whole
    pids, firsts = zip(*by(notes), strict=True)
    assert sorted(firsts) == [f"{number:05d}" for number in range(0, NUMBERS, 64)]
    assert str(os.getpid()) not in pids
    assert list((store.root / "partial").iterdir()) == []


@pytest.mark.slow
@pytest.mark.parametrize("name", ["processes", "ray"])
def test_maps_masks_and_scores_are_those_of_one_process(engine, small, chain, tmp_path, name):
    settings, store = chain.settings(), open_store(tmp_path)

    def run_stages(ready):
        for upstream, stage in STAGES:
            inputs = Inputs(upstream=chain.made[upstream], data=chain.data)
            yield RUN[stage](getattr(settings, stage), inputs, store, ready)

    made = engine(name, lambda ready: list(run_stages(ready)))
    assert [one.id for one in made] == [chain.made[stage].id for _, stage in STAGES]
    assert list((tmp_path / "partial").iterdir()) == []


def test_the_segment_of_a_process_that_is_killed_is_computed_by_another(engine, whole, tmp_path):
    store, notes = open_store(tmp_path / ".mcis"), tmp_path / "notes"

    def kill_one():
        while not (notes.exists() and len(by(notes)) > 2):
            time.sleep(0.01)
        os.kill(int(by(notes)[-1][0]), signal.SIGKILL)

    killer = threading.Thread(target=kill_one)
    killer.start()
    assert engine("processes", numbers(store, notes, pause=0.005)).id == whole
    killer.join()
    assert len({pid for pid, _ in by(notes)}) == 3
    assert len(by(notes)) == 8  # of seven segments, the one that was interrupted twice


def test_a_segment_that_kills_every_process_is_given_up():
    packed = engines.Call(small_segments.kill_this_process, (None, None, None), options(), {}).packed("cpu", 1)
    with engines.Processes(1, 1) as processes:
        future = processes.submit(packed, ("key", 0), on_gpu=False)
        with pytest.raises(WorkerDiedError, match="memory ran out; use fewer with --workers"):
            future.result()


def test_an_error_that_users_can_fix_arrives_as_it_is():
    call = engines.Call(small_segments.raise_data_error, (None, None, None), options(), {})
    with (
        engines.Processes(1, 1) as processes,
        pytest.raises(DataError, match=r"^a\.jpg is not an image$"),
    ):
        list(engines.Elsewhere(processes, call)("key", [0, 1], "cpu"))


def test_a_worker_that_would_make_something_else_refuses(tmp_path):
    """As a machine with another precision does."""
    store, asked = open_store(tmp_path / ".mcis"), iter([("another key", 0)])
    with pytest.raises(UsageError, match="found other images, weights or another precision"):
        numbers(store, tmp_path / "notes")(options(asked=asked))


def test_processes_have_no_gpu_each():
    with engines.Processes(1, 1) as processes, pytest.raises(UsageError, match="--engine ray"):
        processes.submit(b"", ("key", 0), on_gpu=True)


@pytest.mark.parametrize(("given", "threads"), [(None, 1), ("1", 1), ("4", 4), ("4,2", 4), ("0", 1), ("many", 1)])
def test_each_worker_has_the_threads_of_the_environment_or_one(monkeypatch, given, threads):
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    if given is not None:
        monkeypatch.setenv("OMP_NUM_THREADS", given)
    assert engines.num_threads() == threads


# The commands


def test_a_chain_runs_with_an_engine(call, chain_copy, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    changed = ("--set", "pseudo.foreground_threshold=0.41", "--set", "cams.refs=1")
    with_engine = call("run", "--engine", "processes", *changed, "--workers", "2", cwd=chain_copy.folder)
    assert with_engine.code == 0, with_engine.err
    alone = call("run", *changed, "--store", chain_copy.folder / "other", "--device", "cpu", cwd=chain_copy.folder)
    assert Path(with_engine.lines[0]).name == Path(alone.lines[0]).name


def test_features_of_workers_are_removed_with_the_engine(call, chain_copy, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    answer = call("cams", "--engine", "processes", "--refs", "1", "--workers", "1", cwd=chain_copy.folder)
    assert answer.code == 0, answer.err
    assert list(chain_copy.store.scratch_folder.iterdir()) == []


def test_shards_and_an_engine_exclude_each_other(call, chain):
    answer = call("cams", "--shard", "1/2", "--engine", "processes", cwd=chain.folder)
    assert (answer.code, answer.out) == (2, "")
    assert "--shard 1/2 and --engine processes both divide the work: give one of them" in answer.err


def test_an_unknown_engine_is_refused(call, tmp_path):
    answer = call("run", "--engine", "dask", cwd=tmp_path)
    assert (answer.code, answer.out) == (2, "")
    assert "no engine is called 'dask', expected here, processes, ray; give --engine here" in answer.err


def test_without_ray_a_line_names_the_extra(call, chain_copy, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    answer = call("pseudo", "--engine", "ray", "--foreground-threshold", "0.43", cwd=chain_copy.folder)
    assert (answer.code, answer.out) == (2, "")
    assert "--engine ray needs the package ray, which is not installed; pip install 'mcis[ray]'" in answer.err


def test_without_a_cluster_at_the_address_a_line_says_so(call, chain_copy, monkeypatch):
    pytest.importorskip("ray")
    monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:1")
    answer = call("pseudo", "--engine", "ray", "--foreground-threshold", "0.43", cwd=chain_copy.folder)
    assert (answer.code, answer.out) == (2, "")
    assert "expected a cluster at RAY_ADDRESS, found 127.0.0.1:1; set RAY_ADDRESS=HOST:6379, or unset it" in answer.err


def test_ray_is_imported_only_if_it_is_named(chain):
    script = (
        "import sys; from mcis_cli.cli.start import main\n"
        "try: main(sys.argv[1:])\n"
        "finally: assert not {name for name in sys.modules if name.partition('.')[0] == 'ray'}"
    )
    for arguments in (["cams"], ["cams", "--engine", "processes"], ["run", "--dry-run", "--engine", "ray"]):
        command = [sys.executable, "-c", script, *arguments]
        done = subprocess.run(command, cwd=chain.folder, capture_output=True, text=True, env=environment())
        assert done.returncode == 0, done.stderr
