"""The background rules, by their names in `pseudo.background`; each is a file."""

from collections.abc import Mapping

from mcis_cli.stages.pseudo.backgrounds import affinity, constant, power, saliency
from mcis_cli.stages.pseudo.backgrounds.rule import Background

BACKGROUNDS: Mapping[str, Background] = {
    "affinity": affinity.RULE,
    "constant": constant.RULE,
    "power": power.RULE,
    "saliency": saliency.RULE,
}
