"""Superpixels by SLIC (Achanta et al. 2012): k-means of colour and place, about equally large."""

from mcis_cli.config import PseudoConfig
from mcis_cli.maps.regions import Regions, of_labels
from mcis_cli.stages.pseudo.material import Material


def find(config: PseudoConfig, material: Material) -> Regions:
    """The superpixels of the photograph."""
    from skimage.segmentation import slic

    assert material.image is not None, "read for regions of photographs"
    options = config.slic
    return of_labels(slic(material.image, n_segments=options.segments, compactness=options.compactness, start_label=1))
