"""The fusions, by their names in `pseudo.fusion`; each is a file."""

from collections.abc import Callable, Mapping

from mcis_cli.config import PseudoConfig
from mcis_cli.stages.pseudo.fusions import hard, soft
from mcis_cli.stages.pseudo.material import Mask, Material

FUSIONS: Mapping[str, Callable[[PseudoConfig, Material], Mask]] = {"hard": hard.fuse, "soft": soft.fuse}
