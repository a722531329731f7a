"""A chain whose maps have walked: settings that do so in seconds, and the artifact of each of the three stages."""

from collections.abc import Mapping
from typing import Any

from tiny_chain import Chain, options

from mcis_cli.config import RunOptions, Settings
from mcis_cli.stages.affinity import labels as affinity_labels
from mcis_cli.stages.affinity import train as train_affinity
from mcis_cli.stages.affinity import walk as affinity
from mcis_cli.stages.engine.inputs import Inputs
from mcis_cli.store import Artifact, Store

SMALL: Mapping[str, Any] = {
    "crop": 48,
    "epochs": 1,
    "batch_size": 4,
    "walk_doublings": 4,
    "walk_power": 1.0,
    "precision": "fp32",
}
TOML = '\n[affinity]\ncrop = 48\nepochs = 1\nbatch_size = 4\nwalk_doublings = 4\nwalk_power = 1.0\nprecision = "fp32"\n'


def walk_settings(chain: Chain, **affinity: Any) -> Settings:
    """The settings of a chain whose maps walk."""
    return chain.settings(affinity={**SMALL, **affinity}, pseudo={"background": "affinity"})


def run_walk(
    chain: Chain, store: Store | None = None, run: RunOptions | None = None, **changes: Any
) -> dict[str, Artifact]:
    """Do the three stages, or find them done."""
    config, run = walk_settings(chain, **changes).affinity, run or options(preset="quick")
    store = store or chain.store
    maps = chain.made["cams"]
    made = {"affinity-labels": affinity_labels.run(config, Inputs(upstream=maps, data=chain.data), store, run)}
    learnt = Inputs(upstream=made["affinity-labels"], data=chain.data)
    made["affinity-net"] = train_affinity.run(config, learnt, store, run)
    walking = Inputs(upstream=maps, data=chain.data, network=made["affinity-net"])
    made["affinity"] = affinity.run(config, walking, store, run)
    return made
