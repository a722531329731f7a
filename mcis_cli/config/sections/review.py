"""Review of pseudo masks."""

from collections.abc import Mapping
from typing import ClassVar

from mcis_cli.config.sections.common import PRECISION
from mcis_cli.config.setting import Config, setting, when
from mcis_cli.config.values import Precision


class ReviewConfig(Config):
    """Rank pseudo masks by how likely they are wrong."""

    FACTS: ClassVar[Mapping[str, Mapping[str, str]]] = {
        "evidence": {"maps": "without --network", "maps and network": "with --network"}
    }

    precision: Precision = setting("auto", PRECISION, flag=True, used=when(evidence="maps and network"))
