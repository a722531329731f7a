"""The page of a review: the masks that are most likely wrong, over their photographs, and why."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from mcis_cli.config import DataConfig, RunOptions
from mcis_cli.errors import DataError, counted
from mcis_cli.report.cards import Card, Photos, cards
from mcis_cli.report.content import predict
from mcis_cli.stages.engine.inputs import look_behind
from mcis_cli.stages.plan.lineage import trace
from mcis_cli.stages.review.ranking import Reviewed
from mcis_cli.store import Artifact, Store


@dataclass
class ReviewPage:
    """The content of the page.

    Attributes:
        masks: the id of the reviewed masks.
        folder: the name of the folder of the images.
        count: all reviewed masks.
        class_names: background first; place k is mask value k.
        photos: the photographs.
        cards: the masks to look at, the most likely wrong one first.
        notes: what is not on the page, and why.
    """

    masks: str
    folder: str
    count: int
    class_names: tuple[str, ...]
    photos: Photos
    cards: list[Card] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def gather(
    masks: Artifact,
    found: Sequence[Reviewed],
    network: Artifact | None,
    store: Store,
    data: DataConfig | None,
    options: RunOptions,
    *,
    count: int,
) -> ReviewPage:
    """The first masks of a ranking, with the maps that they were made from, and the network's predictions.

    Args:
        masks: pseudo masks.
        found: their ranking.
        network: the network that they were compared with.
        store: where they are.
        data: where the images are; None for the folder that they were listed in.
        options: how to run the network on this machine.
        count: masks on the page.
    """
    images = look_behind(masks, data, store)
    chosen = {one.image_id: one for one in found[:count]}
    predictions = {} if network is None else predict(network, images, tuple(chosen), options)
    names = ("background", *masks.meta["class_names"])
    page = ReviewPage(masks.path.stem, images.root.name, len(found), names, Photos(images))
    faults: list[DataError] = []
    for card in cards(trace([masks], store), images, page.photos, chosen, predictions, {}, chosen):
        faults.append(card) if isinstance(card, DataError) else page.cards.append(_without_truth(card))
    if faults:
        page.notes.append(f"{counted(len(faults), 'image')} cannot be shown; the first because {faults[0]}.")
    return page


def _without_truth(card: Card) -> Card:
    """A card without scores and ground truth, of which a review knows nothing."""
    tiles = {title: replace(tile, score=None) for title, tile in card.tiles.items() if title != "ground truth"}
    return replace(card, tiles=tiles, score=None)
