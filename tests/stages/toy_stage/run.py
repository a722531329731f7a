"""`areas`: counts the pixels of each class."""

import numpy as np

from mcis_cli.stages import read_record
from mcis_cli.stages.engine.by_image import run_segments
from mcis_cli.stages.engine.inputs import images_of
from toy_stage.declaration import SCHEMA, recipe


def run(config, inputs, store, options):
    masks = inputs.expect("pseudo masks")
    catalogue = images_of(masks, inputs.data, store)
    wanted = recipe(masks.id, catalogue.only(masks.ids))
    if done := store.find(wanted):
        return done

    def compute(ids):
        for image_id in ids:
            mask = read_record(masks, image_id)["mask"]
            yield image_id, {"pixels": np.bincount(mask.ravel(), minlength=catalogue.num_classes).astype(np.int64)}

    return run_segments(
        wanted,
        store,
        options,
        schema=SCHEMA,
        ids=masks.ids,
        compute=compute,
        meta=lambda: {
            "dataset": catalogue.id,
            "split": masks.meta["split"],
            "class_names": list(catalogue.class_names),
            "initialisation": masks.meta["initialisation"],
        },
    )
