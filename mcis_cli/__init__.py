"""Weakly supervised semantic segmentation: from images with tags to pixel masks.

The package implements "Mining Cross-Image Semantics for Weakly Supervised Semantic Segmentation"
(Sun, Wang, Dai, Van Gool; ECCV 2020). The names below are what Python users need; each is imported when it is used, so
importing the package imports neither torch nor h5py.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mcis_cli.config import DataConfig as DataConfig
    from mcis_cli.config import RunOptions as RunOptions
    from mcis_cli.config import Settings as Settings
    from mcis_cli.config import resolve as resolve
    from mcis_cli.errors import McisError as McisError
    from mcis_cli.stages.affinity.labels import run as affinity_labels
    from mcis_cli.stages.affinity.train import run as affinity_net
    from mcis_cli.stages.affinity.walk import run as affinity
    from mcis_cli.stages.average.run import run as average
    from mcis_cli.stages.cams.run import run as cams
    from mcis_cli.stages.engine.inputs import Inputs as Inputs
    from mcis_cli.stages.evaluate.run import run as evaluate
    from mcis_cli.stages.plan.chain import run_chain as run_chain
    from mcis_cli.stages.predict.run import run as predict
    from mcis_cli.stages.pseudo.run import run as pseudo
    from mcis_cli.stages.review.run import run as review
    from mcis_cli.stages.train_cls.run import run as train_cls
    from mcis_cli.stages.train_seg.run import run as train_seg
    from mcis_cli.store import Artifact as Artifact
    from mcis_cli.store import Store as Store
    from mcis_cli.store import open_store as open_store

__version__ = "0.1.0"
__all__ = [
    "Artifact",
    "DataConfig",
    "Inputs",
    "McisError",
    "RunOptions",
    "Settings",
    "Store",
    "__version__",
    "affinity",
    "affinity_labels",
    "affinity_net",
    "average",
    "cams",
    "evaluate",
    "open_store",
    "predict",
    "pseudo",
    "resolve",
    "review",
    "run_chain",
    "train_cls",
    "train_seg",
]

# Where each public name is: its module, and its name there.
_HOMES = {
    "Artifact": ("store", "Artifact"),
    "DataConfig": ("config", "DataConfig"),
    "Inputs": ("stages.engine.inputs", "Inputs"),
    "McisError": ("errors", "McisError"),
    "RunOptions": ("config", "RunOptions"),
    "Settings": ("config", "Settings"),
    "Store": ("store", "Store"),
    "affinity": ("stages.affinity.walk", "run"),
    "affinity_labels": ("stages.affinity.labels", "run"),
    "affinity_net": ("stages.affinity.train", "run"),
    "average": ("stages.average.run", "run"),
    "cams": ("stages.cams.run", "run"),
    "evaluate": ("stages.evaluate.run", "run"),
    "open_store": ("store", "open_store"),
    "predict": ("stages.predict.run", "run"),
    "pseudo": ("stages.pseudo.run", "run"),
    "resolve": ("config", "resolve"),
    "review": ("stages.review.run", "run"),
    "run_chain": ("stages.plan.chain", "run_chain"),
    "train_cls": ("stages.train_cls.run", "run"),
    "train_seg": ("stages.train_seg.run", "run"),
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module, attribute = _HOMES[name]
    found = getattr(import_module(f"{__name__}.{module}"), attribute)
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOMES})
