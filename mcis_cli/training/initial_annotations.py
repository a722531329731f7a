"""The annotations with which published initial weights were trained, by their name. Imports no torch."""

import re

from mcis_cli.training.initial_weights import PUBLISHED
from mcis_cli.training.timm_weights import TIMM

# Parts of timm's tags: data sets and methods with texts, and methods that look at images alone. EVA's masked image
# modelling ("mim") predicts features of CLIP, which has learned from texts.
_WITH_TEXTS = {
    *("clip", "openai", "laion2b", "laion400m", "laiona", "datacompxl", "dfn2b", "dfn5b", "metaclip", "mclip", "webli"),
    *("yfcc15m", "cc12m", "merged2b", "mim"),
}
_WITH_IMAGES_ALONE = {"dino", "dinov3", "lvd142m", "lvd1689m", "sat493m", "mae", "fcmae", "ijepa"}
_OF_OTHER_NETWORKS = {"eupe"}  # distilled from several, whatever data set follows
_WITH_TAGS = re.compile(r"(^|_)in\d+k(_|$)")  # ImageNet with 1, 12, 21 or 22 thousand classes


def annotations_of(identity: str) -> str | None:
    """The annotations that weights were trained with: "tags", "text", "text and tags", "none"; None if not known.

    Args:
        identity: The name of the weights in a recipe, as `initial_weights_identity` gives it.
    """
    if identity in {published.identity for published in PUBLISHED.values()}:
        return "tags"
    tag = identity.partition(".")[2] if identity.startswith(TIMM) else ""
    first, _, tuned = tag.partition("_ft_")
    parts = set(first.split("_"))
    if parts & _OF_OTHER_NETWORKS:
        return None
    has_tags = bool(_WITH_TAGS.search(tuned))
    if parts & _WITH_TEXTS:
        return "text and tags" if has_tags else "text"
    if parts & _WITH_IMAGES_ALONE:
        return "tags" if has_tags else "none"
    return "tags" if _WITH_TAGS.search(first) else None
