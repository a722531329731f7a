"""The chain as a whole."""

from mcis_cli.config.sections.common import COUNT
from mcis_cli.config.setting import Config, setting


class RunConfig(Config):
    """The chain that `mcis run` and `mcis status` follow."""

    rounds: int = setting(
        1,
        "times to make masks and network; each round after the first adds the last network to the maps [13]",
        ge=1,
        le=3,
        flag=COUNT,
    )
