"""A segmentation network that learned from earlier masks, limited to the tags of each image (second round).

Not in the paper. The network has learned from all images, so it corrects errors of single maps; the tags exclude
classes that the image does not show.
"""

from collections.abc import Callable
from dataclasses import replace

from mcis_cli.config import EvalConfig
from mcis_cli.maps.pseudo import among_tags
from mcis_cli.stages.pseudo.evidence import Evidence
from mcis_cli.stages.pseudo.material import Material


def open_cue(evidence: Evidence) -> Callable[[Material], Material] | None:
    """Load the network, if there is one; it predicts in this process, one image after another."""
    if evidence.network is None:
        return None
    from mcis_cli.stages.engine.predictor import Predictor

    config, images = evidence.config, evidence.images
    look = EvalConfig(scales=config.scales, flip=config.flip, precision=config.precision)
    predictor = Predictor(evidence.network, look, evidence.options)

    def add(material: Material) -> Material:
        if material.corrected is not None:
            return material  # the prediction would not be used
        image = images.read_image(material.image_id) if material.image is None else material.image
        return replace(material, predicted=among_tags(predictor.probabilities(image), material.classes))

    return add
