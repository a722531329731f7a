"""The comparisons of the paper as settings: the available rows of its Table 1, and the rows of its Tables 2, 4 and 5,
with the published figures.

Those are mean IoU in percent of the segmentation network on the val split of PASCAL VOC 2012.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from mcis_cli.config.sections import Settings

Loss = Literal["basic", "co-attention", "full"]


@dataclass(frozen=True)
class Row:
    """One row of a table.

    Attributes:
        name: for people.
        loss: of the classifier.
        refs: references for each map; 0 is single-round.
        with_contrastive: whether contrastive maps are averaged in.
        published: mean IoU in percent; None if this project cannot cite a figure.
        changes: further settings, by section.
    """

    name: str
    loss: Loss
    refs: int
    published: float | None
    with_contrastive: bool = False
    changes: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    def of(self, settings: Settings, seed: int) -> Settings:
        """The settings of the row, with that seed for every stage; other settings are unchanged.

        Single-round maps are φ of the image's own features in every preset: the released code's five maps need a W_P
        and a second head, which the basic loss does not train.
        """
        cams: dict[str, Any] = {"refs": self.refs, "with_contrastive": self.with_contrastive, "seed": seed}
        if not self.refs:
            cams["localization"] = "references"
        given: dict[str, dict[str, Any]] = {
            "train_cls": {"loss": self.loss, "seed": seed},
            "cams": cams,
            "affinity": {"seed": seed},
            "pseudo": {},
            "train_seg": {"seed": seed},
        }
        return settings.changed(**{name: {**new, **self.changes.get(name, {})} for name, new in given.items()})

    @property
    def maps(self) -> Literal["maps", "walked maps"]:
        """The kind of its maps: those of the classifier, or those after a walk."""
        return "walked maps" if self.changes.get("pseudo", {}).get("background") == "affinity" else "maps"


@dataclass(frozen=True)
class AblationTable:
    """A table of the paper; the other rows are compared with the first."""

    number: int
    title: str
    rows: tuple[Row, ...]


# One plain classifier serves three rows of Table 1: keeping its epochs changes none of its weights.
_PLAIN: Mapping[str, Any] = {"equivariant": False, "keep_epochs": True}

# The basic classifier has no trained W_P, so its maps are single-round; those of Table 4 with one have 3 references.
TABLES: Mapping[int, AblationTable] = {
    table.number: table
    for table in (
        AblationTable(
            1,
            "methods",
            (
                Row("CAM", "basic", 0, None, changes={"train_cls": _PLAIN, "cams": {"refine": False}}),
                Row(
                    "SEAM",
                    "basic",
                    0,
                    None,
                    changes={"train_cls": {"equivariant": True, "keep_features": False}, "cams": {"refine": True}},
                ),
                Row(
                    "PSA (AffinityNet)",
                    "basic",
                    0,
                    None,
                    changes={
                        "train_cls": _PLAIN,
                        "cams": {"refine": False},
                        "pseudo": {"background": "affinity"},
                    },
                ),
                Row(
                    "OAA",
                    "basic",
                    0,
                    None,
                    changes={"train_cls": _PLAIN, "cams": {"refine": False, "localization": "accumulated"}},
                ),
                Row("co-attention, full", "full", 3, 66.2),
            ),
        ),
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
