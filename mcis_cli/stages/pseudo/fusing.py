"""The pseudo mask of one image, from its material."""

import numpy as np

from mcis_cli.config import PseudoConfig
from mcis_cli.maps.pseudo import IGNORE_INDEX
from mcis_cli.stages.pseudo.fusions import FUSIONS, soft
from mcis_cli.stages.pseudo.material import Material
from mcis_cli.stages.pseudo.regions import with_regions
from mcis_cli.store import Record


def make_mask(config: PseudoConfig, material: Material) -> Record:
    """The pseudo mask of one image; wholly ignored if it needs a saliency map for the background and has none.

    A corrected mask is used as it is. A negative is all background, whatever stands out in it. Without maps, a
    network's prediction is used alone.
    """
    classes = material.classes
    if material.corrected is not None:
        mask = material.corrected
        classes = tuple(value - 1 for value in np.unique(mask).tolist() if value not in (0, IGNORE_INDEX))
    elif not material.classes:
        mask = np.zeros(material.size, dtype=np.uint8)
    elif material.maps is None:
        mask = soft.fuse(config, with_regions(config, material))
    elif config.background == "saliency" and material.saliency is None:
        mask = np.full(material.size, IGNORE_INDEX, dtype=np.uint8)
    else:
        mask = FUSIONS[config.fusion](config, with_regions(config, material))
    return material.image_id, {"mask": mask, "classes": np.array(classes, dtype=np.int32)}
