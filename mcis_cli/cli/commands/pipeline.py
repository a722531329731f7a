"""The commands of the pipeline, in its order. Each prints one line: the artifact that it made, or found made."""

import typer

from mcis_cli.cli.commands.affinity import affinity
from mcis_cli.cli.commands.evaluate import evaluate
from mcis_cli.cli.commands.masks import cams, pseudo
from mcis_cli.cli.commands.train import train_cls, train_seg


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command("train-cls")(train_cls)
    app.command("cams")(cams)
    app.command("affinity")(affinity)
    app.command("pseudo")(pseudo)
    app.command("train-seg")(train_seg)
    app.command("eval")(evaluate)
