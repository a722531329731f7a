"""Regions by Felzenszwalb and Huttenlocher (2004): a graph of pixels, cut where neighbours differ most."""

from mcis_cli.config import PseudoConfig
from mcis_cli.maps.regions import Regions, of_labels
from mcis_cli.stages.pseudo.material import Material


def find(config: PseudoConfig, material: Material) -> Regions:
    """The regions of the photograph."""
    from skimage.segmentation import felzenszwalb

    assert material.image is not None, "read for regions of photographs"
    options = config.felzenszwalb
    labels = felzenszwalb(material.image, scale=options.scale, sigma=options.sigma, min_size=options.min_size)
    return of_labels(labels + 1)
