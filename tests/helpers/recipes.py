"""The recipes of all stages, each under the name of its section, with versions and schemas by stage."""

from mcis_cli.stages import STAGES, chained, kind_of
from mcis_cli.stages.affinity.declaration import labels_recipe as affinity_labels
from mcis_cli.stages.affinity.declaration import network_recipe as affinity_net
from mcis_cli.stages.affinity.declaration import walk_recipe as affinity
from mcis_cli.stages.average.declaration import recipe as average
from mcis_cli.stages.cams.declaration import recipe as cams
from mcis_cli.stages.evaluate import declaration
from mcis_cli.stages.materials import CORRECTED, DATASET
from mcis_cli.stages.materials import corrected_recipe as corrected
from mcis_cli.stages.materials import dataset_recipe as dataset
from mcis_cli.stages.pseudo.declaration import recipe as pseudo
from mcis_cli.stages.review.declaration import recipe as review
from mcis_cli.stages.train_cls.declaration import affinity_weights
from mcis_cli.stages.train_cls.declaration import recipe as train_cls
from mcis_cli.stages.train_seg.declaration import recipe as train_seg

__all__ = [
    "SCHEMAS",
    "VERSIONS",
    "affinity",
    "affinity_labels",
    "affinity_net",
    "affinity_weights",
    "average",
    "cams",
    "corrected",
    "dataset",
    "evaluate",
    "pseudo",
    "review",
    "train_cls",
    "train_seg",
]

VERSIONS = {stage.name: stage.version for stage in (DATASET, CORRECTED, *chained().values())}
SCHEMAS = {stage.name: stage.content.schemas[0] for stage in STAGES}


def evaluate(config, artifact, images, *, of_stage):
    return declaration.recipe(config, artifact, images, of=kind_of(of_stage))
