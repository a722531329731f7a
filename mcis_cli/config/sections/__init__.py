"""Settings of every stage, a file for each section: frozen, validated, and hashed into the recipe of the stage.

Each field declares all its facts (`mcis_cli.config.setting`); [n] names the n-th difference of
docs/explanation/differences-from-the-paper.md.
"""

from collections.abc import Mapping
from typing import Any, Self

from pydantic import Field

from mcis_cli.config.sections.affinity import AffinityConfig
from mcis_cli.config.sections.average import AverageConfig
from mcis_cli.config.sections.cams import CamsConfig
from mcis_cli.config.sections.data import DataConfig
from mcis_cli.config.sections.evaluate import EvalConfig
from mcis_cli.config.sections.pseudo import PseudoConfig
from mcis_cli.config.sections.review import ReviewConfig
from mcis_cli.config.sections.run import RunConfig
from mcis_cli.config.sections.train_cls import TrainClsConfig
from mcis_cli.config.sections.train_seg import TrainSegConfig
from mcis_cli.config.setting import Config

__all__ = [
    "SECTIONS",
    "AffinityConfig",
    "AverageConfig",
    "CamsConfig",
    "DataConfig",
    "EvalConfig",
    "PseudoConfig",
    "ReviewConfig",
    "RunConfig",
    "Settings",
    "TrainClsConfig",
    "TrainSegConfig",
]


class Settings(Config):
    """The content of `mcis.toml`, a section for each stage."""

    data: DataConfig = DataConfig()
    train_cls: TrainClsConfig = Field(TrainClsConfig(), alias="train-cls")
    cams: CamsConfig = CamsConfig()
    average: AverageConfig = AverageConfig()
    affinity: AffinityConfig = AffinityConfig()
    pseudo: PseudoConfig = PseudoConfig()
    review: ReviewConfig = ReviewConfig()
    train_seg: TrainSegConfig = Field(TrainSegConfig(), alias="train-seg")
    eval: EvalConfig = EvalConfig()
    run: RunConfig = RunConfig()

    def changed(self, **sections: Mapping[str, Any]) -> Self:
        """These settings with changed ones in some sections, which are not checked again."""
        return self.model_copy(
            update={name: getattr(self, name).model_copy(update=new) for name, new in sections.items()}
        )


def _section(kind: object) -> type[Config]:
    assert isinstance(kind, type)
    assert issubclass(kind, Config)
    return kind


SECTIONS: Mapping[str, type[Config]] = {
    field.alias or name: _section(field.annotation) for name, field in Settings.model_fields.items()
}
