"""Regions by Felzenszwalb and Huttenlocher (2004): a graph of pixels, cut where neighbours differ most."""

from mcis_cli.config import PseudoConfig
from mcis_cli.maps.regions import Regions, of_labels
from mcis_cli.stages.pseudo.material import Material


def find(config: PseudoConfig, material: Material) -> Regions:
    """The regions of the photograph, at each of the scales."""
    from skimage.segmentation import felzenszwalb

    assert material.image is not None, "read for regions of photographs"
    options, image = config.felzenszwalb, material.image
    return of_labels(
        *(
            felzenszwalb(image, scale=scale, sigma=options.sigma, min_size=options.min_size) + 1
            for scale in options.scales
        )
    )
