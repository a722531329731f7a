"""A Ray cluster of three nodes and a head on this machine, of which nodes die while stages run."""

import os
import random
import threading
import time
from collections import Counter
from contextlib import contextmanager
from pathlib import Path

import pytest
import small_segments
from sizes import size
from tiny_chain import options

from mcis_cli.stages.engine import engines
from mcis_cli.stages.engine.inputs import Inputs
from mcis_cli.store import open_store, segments

pytest.importorskip("ray")
pytestmark = [pytest.mark.promise, pytest.mark.slow, pytest.mark.heavy, pytest.mark.filterwarnings("ignore")]

NUM_NODES, MEMORY = 3, 100 * 2**20
NUMBERS = 3 * 12  # twelve segments
STAGES = {
    "numbers": None,
    "pseudo": ("cams", small_segments.make_masks),
    "cams": ("train-cls", small_segments.map_images),
    "eval": ("train-seg", small_segments.score),
}


class Nodes:
    """The nodes of a cluster beside its head."""

    def __init__(self, cluster):
        self._cluster, self._nodes = cluster, []

    def fill(self):
        """Start those that are missing; Ray does so in the main thread only.

        On a busy machine a node may start too late for Ray, which is no failure of what is tested; five may.
        """
        late = 0
        while len(self._nodes) < NUM_NODES:
            try:
                self._nodes.append(self._cluster.add_node(num_cpus=1, object_store_memory=MEMORY))
            except Exception:
                late += 1
                if late > 5:
                    raise

    def kill_one(self, draw):
        """Kill all processes of a node, as a power cut would."""
        self._cluster.remove_node(self._nodes.pop(draw.randrange(NUM_NODES)), allow_graceful=False)


@pytest.fixture(scope="module")
def nodes():
    """Three nodes, and a driver that is connected."""
    import ray
    from ray.cluster_utils import Cluster

    with pytest.MonkeyPatch.context() as patch:
        helpers = str(Path(small_segments.__file__).parent)
        patch.setenv("PYTHONPATH", os.pathsep.join([helpers, os.environ.get("PYTHONPATH", "")]))
        patch.setenv("MCIS_SMALL_SEGMENTS", "1")
        patch.setenv("OMP_NUM_THREADS", "1")
        patch.setattr(segments, "SEGMENT_SIZE", small_segments.SIZE)
        cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "object_store_memory": MEMORY})
        try:
            patch.setenv("RAY_ADDRESS", cluster.address)
            ray.init(cluster.address, logging_level="ERROR", log_to_driver=False)
            yield Nodes(cluster)
        finally:
            ray.shutdown()
            cluster.shutdown()


@contextmanager
def killing(nodes, store, after, draw):
    """Kill a node as soon as so many segments are there; gives a list that is filled then."""
    ended, killed = threading.Event(), []

    def kill():
        while not ended.is_set():
            if len(list(store.root.glob("partial/*/segment-*"))) >= after:
                nodes.kill_one(draw)
                killed.append(time.monotonic())
                return
            time.sleep(0.005)

    thread = threading.Thread(target=kill)
    thread.start()
    try:
        yield killed
    finally:
        ended.set()
        thread.join()


def test_a_node_that_dies_changes_nothing(nodes, chain, tmp_path, tally):
    draw = random.Random(0)
    whole = small_segments.write_numbers((NUMBERS, 0, tmp_path / "notes"), None, open_store(tmp_path / "w"), options())
    for number in range(size(2, 100)):
        nodes.fill()
        stage = list(STAGES)[number % len(STAGES)]
        store, notes = open_store(tmp_path / f"store-{number}"), tmp_path / f"notes-{number}"
        after = draw.randrange(8 if stage == "numbers" else 2)
        with killing(nodes, store, after, draw) as killed, engines.opened("ray", options()) as ready:
            if STAGES[stage] is None:
                made = small_segments.write_numbers((NUMBERS, 0.03, str(notes)), None, store, ready)
                times = Counter(line.split()[1] for line in notes.read_text().splitlines())
                assert set(times.values()) <= {1, 2}
                assert len(times) == NUMBERS / small_segments.SIZE
                tally.count(segments_computed_twice=sum(times.values()) - len(times))
            else:
                upstream, run = STAGES[stage]
                inputs = Inputs(upstream=chain.made[upstream], data=chain.data)
                made = run(getattr(chain.settings(), stage), inputs, store, ready)
        assert made.id == (whole if STAGES[stage] is None else chain.made[stage]).id
        assert made.is_intact()
        tally.count(runs=1, nodes_killed=len(killed))
