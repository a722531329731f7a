"""Where images, tags, masks and saliency maps are."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, ValidationError

from mcis_cli.config.sections.common import ONE_SPLIT
from mcis_cli.config.setting import Config, Flag, setting
from mcis_cli.config.values import Domain, Names

# The layouts of data, each a file in data/layouts; `auto` tries them in this order.
LayoutName = Literal["auto", "voc", "roboflow", "label-studio", "coco", "table", "list", "labelme", "folders", "shards"]


class SourceConfig(Config):
    """Further images, of the classes of `[data]`: a table `[[data.sources]]` for each place."""

    root: str = setting(..., "folder, table, or list of lines `path tag`; relative as the root of [data] is")
    domain: Domain = setting(..., "kind of images: more of the target, with one label each, or from a web search")
    name: str | None = setting(
        None, "prefix of its images' ids; else the domain, numbered", pattern=r"^[A-Za-z0-9][\w.-]*$"
    )
    layout: LayoutName = setting("auto", "as in [data]")
    tags: str | None = setting(None, "file of tags, as in [data]")
    list_tags: Literal["one", "first", "all"] = setting(
        "one", "tags of a line of a list: further ones are an error, are ignored, or are used too"
    )
    saliency: str | None = setting(None, "folder of saliency maps, as in [data]")


def _unique_names(sources: tuple[SourceConfig, ...]) -> tuple[SourceConfig, ...]:
    names = [source.name for source in sources if source.name is not None]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise ValueError(f"sources of different names, found two called {twice[0]!r}")
    return sources


Sources = Annotated[tuple[SourceConfig, ...], Field(strict=False), AfterValidator(_unique_names)]


class DataConfig(Config):
    """Where the images, tags, masks and saliency maps are. Paths are relative to `root`."""

    root: str = setting(
        ".",
        "folder, table, list, tar or URL; a path is relative to mcis.toml, or with --set to the current folder",
    )
    layout: LayoutName = setting("auto", "how the folder is read; auto detects it")
    tags: str | None = setting(
        None,
        "file of tags: ID class class … (voc, list), the table, COCO's .json, or 0 and 1 in .npy",
        flag=Flag(metavar="FILE"),
    )
    tags_from_masks: bool = setting(
        False, "take the classes in the masks as tags: that is pixel supervision", flag=True
    )
    classes: Names | None = setting(None, "foreground classes; else those of classes.txt, else those of the tags")
    masks: str | None = setting(None, "folder of ground truth; else SegmentationClass (voc) or masks")
    saliency: str | None = setting(
        None, "folder of saliency maps, ID.png or ID.jpg", flag=Flag(metavar="FOLDER", path="folder")
    )
    train: str = setting("train", "split to learn from", flag=ONE_SPLIT)
    val: str = setting("val", "split to score networks on")
    remote_mb: int = setting(20_480, "MB of files from URLs that are kept on this machine", ge=256, le=2**24)
    sources: Sources = setting((), "further images to learn from: [[data.sources]]")

    @classmethod
    def remembered(cls, place: Mapping[str, Any] | None) -> "DataConfig | None":
        """The place that a store remembers; None if it remembers none, or an invalid one."""
        try:
            return None if place is None or "\0" in str(place.get("root")) else cls.model_validate(place)
        except ValidationError:
            return None
