"""Settings of every stage, their presets, and the file `mcis.toml`.

Two kinds, two types: a `*Config` (each in a file of `sections`) is hashed into the recipe of its stage; `RunOptions`
(`running`: device, workers, progress) never changes a result and is never hashed.
"""

from mcis_cli.config.presets import DEFAULT_PRESET, PRESETS, Preset
from mcis_cli.config.resolving import merge, parse_assignment, read_toml, resolve
from mcis_cli.config.running import Asked, Engine, Reporter, RunOptions, Silent
from mcis_cli.config.sections import (
    SECTIONS,
    AffinityConfig,
    AverageConfig,
    CamsConfig,
    DataConfig,
    EvalConfig,
    PseudoConfig,
    ReviewConfig,
    Settings,
    TrainClsConfig,
    TrainSegConfig,
)
from mcis_cli.config.sections.common import CrfConfig
from mcis_cli.config.sections.data import SourceConfig
from mcis_cli.config.setting import Condition, Config, Flag, Setting, setting, unless, when
from mcis_cli.config.values import BACKBONES, MAX_SEED, SUPERPIXELS, AffinityWeights, Backbone, Domain, Precision

__all__ = [
    "BACKBONES",
    "DEFAULT_PRESET",
    "MAX_SEED",
    "PRESETS",
    "SECTIONS",
    "SUPERPIXELS",
    "AffinityConfig",
    "AffinityWeights",
    "Asked",
    "AverageConfig",
    "Backbone",
    "CamsConfig",
    "Condition",
    "Config",
    "CrfConfig",
    "DataConfig",
    "Domain",
    "Engine",
    "EvalConfig",
    "Flag",
    "Precision",
    "Preset",
    "PseudoConfig",
    "Reporter",
    "ReviewConfig",
    "RunOptions",
    "Setting",
    "Settings",
    "Silent",
    "SourceConfig",
    "TrainClsConfig",
    "TrainSegConfig",
    "merge",
    "parse_assignment",
    "read_toml",
    "resolve",
    "setting",
    "unless",
    "when",
]
