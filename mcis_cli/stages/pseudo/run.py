"""`pseudo`: localization maps and background cues become pseudo masks.

In a second round, the masks come from a segmentation network that learned from earlier masks, or from both.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import partial, reduce
from typing import Any

from mcis_cli.config import PseudoConfig, Reporter, RunOptions
from mcis_cli.data.loading import Workers
from mcis_cli.errors import NUM_NAMED, counted, first_few
from mcis_cli.maps.pseudo import is_ignored
from mcis_cli.stages.engine.by_image import ByImage, require_segment, run_segments
from mcis_cli.stages.engine.engines import in_segments
from mcis_cli.stages.engine.inputs import Inputs
from mcis_cli.stages.pseudo.cues import CUES, saliency
from mcis_cli.stages.pseudo.declaration import SCHEMA
from mcis_cli.stages.pseudo.evidence import Evidence, open_evidence
from mcis_cli.stages.pseudo.fusing import make_mask
from mcis_cli.stages.pseudo.material import Material
from mcis_cli.stages.pseudo.shares import Shares, report_shares
from mcis_cli.stages.stage import find
from mcis_cli.store import Artifact, Record, Store


@in_segments
def run(config: PseudoConfig, inputs: Inputs, store: Store, options: RunOptions) -> Artifact:
    """Make the masks, or return the cached ones.

    A record holds `mask` (H, W) at the image's size: 0 background, k + 1 class k, 255 to be ignored; and `classes`.

    Args:
        config: settings; those for maps have no effect without maps.
        inputs: localization maps, or those after their walk, which `background = "affinity"` takes, and for a second
            round a segmentation network beside them; or such a network alone, whose images are those it learned from.
        store: where the artifact goes.
        options: how to run on this machine.

    Raises:
        MissingError: no maps and no network, or their images are not found.
        UsageError: walked maps are required and these are not; or the network is not one, has other classes, or is
            given with hard fusion.
        DataError: saliency is required and missing for some images.
    """
    evidence = open_evidence(config, inputs, store, options)
    without_saliency = saliency.missing(evidence)
    done = find(store, config, evidence.recipe) or _make(evidence, store)
    _warn_of_ignored(done, without_saliency, options.reporter)
    if evidence.maps is not None:
        report_shares(done, evidence.config, options.reporter)
    return done


def _make(evidence: Evidence, store: Store) -> Artifact:
    config, machine = evidence.config, None
    require_segment(evidence.images.ids, evidence.options)
    if evidence.network is not None:
        from mcis_cli.stages.engine.predictor import settle

        config, machine = settle(config, evidence.options)
    ignored, making = Ignored(), _making(evidence)
    shares = Shares(evidence.catalogue.class_names)

    def observe(record: Record) -> None:
        ignored.add(record)
        shares.add(record)

    with making.workers:
        return run_segments(
            evidence.recipe(config),
            store,
            evidence.options,
            schema=SCHEMA,
            ids=evidence.images.ids,
            compute=making.records,
            meta=lambda: {
                "dataset": evidence.catalogue.id,
                "split": evidence.source.meta["split"],
                "class_names": list(evidence.catalogue.class_names),
                "background": "network" if evidence.maps is None else config.background,
                "initialisation": evidence.source.meta["initialisation"],
                **({"corrected": evidence.corrected_ids} if evidence.corrected else {}),
            },
            machine=machine,
            observe=observe,
            observed={"ignored": ignored.facts, "shares": shares.facts},
        )


def _making(evidence: Evidence) -> ByImage[Record]:
    config, workers = evidence.config, evidence.options.workers
    cues = [add for open_cue in CUES if (add := open_cue(evidence))]

    def material(image_id: str) -> Material:
        return reduce(_added, cues, evidence.material(image_id))

    # A CRF runs in processes, a network in this one, and NumPy and Pillow in threads.
    if config.crf or evidence.network is not None:
        crf = Workers(partial(make_mask, config), workers if config.crf else 0, processes=True)
        return ByImage(crf, lambda ids: map(material, ids))
    return ByImage(Workers(lambda image_id: make_mask(config, material(image_id)), workers), lambda ids: ids)


def _added(material: Material, add: Callable[[Material], Material]) -> Material:
    return add(material)


class Ignored:
    """The masks that are wholly ignored: how many, and the first of them.

    A function of the masks, so not part of their identity: it is stored in the provenance, for the warning when masks
    are cached.

    Attributes:
        facts: `count` and `first`.
    """

    def __init__(self) -> None:
        self.facts: dict[str, Any] = {"count": 0, "first": []}

    def add(self, record: Record) -> None:
        """Add a mask; they come in the order of their ids."""
        image_id, fields = record
        if is_ignored(fields["mask"]):
            self.facts["count"] += 1
            if len(self.facts["first"]) <= NUM_NAMED:
                self.facts["first"].append(image_id)


def _warn_of_ignored(masks: Artifact, without_saliency: Sequence[str], reporter: Reporter) -> None:
    ignored: Mapping[str, Any] = masks.provenance.get("ignored", {"count": 0, "first": []})  # older masks lack it
    if ignored["count"]:
        reporter.warn(f"{ignored['count']} of {len(masks)} masks are ignored as a whole: {first_few(ignored['first'])}")
    if without_saliency:
        images = counted(len(without_saliency), "image")
        reporter.warn(f"ignored, without a saliency map: {images}: {first_few(without_saliency)}")
