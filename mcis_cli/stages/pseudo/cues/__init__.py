"""The cues beside maps, in the order in which they add to the material of a mask; each is a file."""

from collections.abc import Callable

from mcis_cli.stages.pseudo.cues import corrected, network, saliency, trust
from mcis_cli.stages.pseudo.evidence import Evidence
from mcis_cli.stages.pseudo.material import Material

CUES: tuple[Callable[[Evidence], Callable[[Material], Material] | None], ...] = (
    saliency.open_cue,
    trust.open_cue,
    corrected.open_cue,
    network.open_cue,
)
