"""Maps of several classifiers in one."""

from typing import Literal

from mcis_cli.config.sections.common import NORMALIZATION
from mcis_cli.config.setting import Config, setting
from mcis_cli.config.values import Normalization


class AverageConfig(Config):
    """Combine several localization maps of each class into one."""

    normalization: Normalization = setting("max", NORMALIZATION, changes_cost=False)
    combine: Literal["mean", "minimum"] = setting(
        "mean",
        "mean of the maps, or their minimum, which keeps what all of them agree on",
        flag=True,
        changes_cost=False,
    )
