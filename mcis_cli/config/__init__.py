"""Settings of every stage, their presets, and the file `mcis.toml`.

Two kinds, two types: a `*Config` (`sections`) is hashed into the recipe of its stage; `RunOptions` (`running`: device,
workers, progress) never changes a result and is never hashed.
"""

from mcis_cli.config.presets import PRESETS, Preset
from mcis_cli.config.resolving import merge, parse_assignment, read_toml, resolve
from mcis_cli.config.running import Reporter, RunOptions, Silent
from mcis_cli.config.sections import (
    BACKBONES,
    MAX_SEED,
    SECTIONS,
    AffinityConfig,
    AffinityWeights,
    Backbone,
    CamsConfig,
    Config,
    CrfConfig,
    DataConfig,
    Domain,
    EvalConfig,
    Precision,
    PseudoConfig,
    Settings,
    SourceConfig,
    TrainClsConfig,
    TrainSegConfig,
    descriptions,
)

__all__ = [
    "BACKBONES",
    "MAX_SEED",
    "PRESETS",
    "SECTIONS",
    "AffinityConfig",
    "AffinityWeights",
    "Backbone",
    "CamsConfig",
    "Config",
    "CrfConfig",
    "DataConfig",
    "Domain",
    "EvalConfig",
    "Precision",
    "Preset",
    "PseudoConfig",
    "Reporter",
    "RunOptions",
    "Settings",
    "Silent",
    "SourceConfig",
    "TrainClsConfig",
    "TrainSegConfig",
    "descriptions",
    "merge",
    "parse_assignment",
    "read_toml",
    "resolve",
]
