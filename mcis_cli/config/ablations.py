"""The ablations of the paper as settings: the rows of its Tables 2, 4 and 5, with the figures that it publishes.

Those are mean IoU in percent of the segmentation network on the val split of PASCAL VOC 2012.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from mcis_cli.config.sections import Settings

Loss = Literal["basic", "co-attention", "full"]


@dataclass(frozen=True)
class Row:
    """One way to do it.

    Attributes:
        name: for people.
        loss: of the classifier.
        refs: references for each map; 0 is single-round.
        with_contrastive: whether contrastive maps are averaged in.
        published: mean IoU in percent.
    """

    name: str
    loss: Loss
    refs: int
    published: float
    with_contrastive: bool = False

    def of(self, settings: Settings, seed: int) -> Settings:
        """Settings that do it so, with that seed of every stage; all else as it is.

        Single-round maps are φ of the image's own features in every preset: the released code's five maps need a W_P
        and a second head, which the basic loss does not train.
        """
        cams: dict[str, Any] = {"refs": self.refs, "with_contrastive": self.with_contrastive, "seed": seed}
        if not self.refs:
            cams["localization"] = "references"
        return settings.model_copy(
            update={
                "train_cls": settings.train_cls.model_copy(update={"loss": self.loss, "seed": seed}),
                "cams": settings.cams.model_copy(update=cams),
                "affinity": settings.affinity.model_copy(update={"seed": seed}),
                "train_seg": settings.train_seg.model_copy(update={"seed": seed}),
            }
        )


@dataclass(frozen=True)
class AblationTable:
    """A table of the paper; its first row is what the others are compared with."""

    number: int
    title: str
    rows: tuple[Row, ...]


# The basic classifier has no trained W_P, so its maps are single-round; those of Table 4 with one have 3 references.
TABLES: Mapping[int, AblationTable] = {
    table.number: table
    for table in (
        AblationTable(
            2,
            "how maps are made",
            (
                Row("basic, single-round", "basic", 0, 61.7),
                Row("single-round", "full", 0, 64.7),
                Row("multi-round", "full", 3, 66.2),
                Row("multi-round, contrastive maps too", "full", 3, 66.2, with_contrastive=True),
            ),
        ),
        AblationTable(
            4,
            "what the classifier learns from",
            (
                Row("basic", "basic", 0, 61.7),
                Row("+ co-attention", "co-attention", 3, 65.5),
                Row("+ contrastive co-attention", "full", 3, 66.2),
            ),
        ),
        AblationTable(
            5,
            "number of references",
            tuple(
                Row(f"{refs} reference{'' if refs == 1 else 's'}", "full", refs, published)
                for refs, published in enumerate((64.7, 65.9, 66.0, 66.2, 66.1, 66.0))
            ),
        ),
    )
}
