"""Tables for people, on stderr."""

from collections.abc import Mapping
from typing import Any

from rich.table import Table
from rich.text import Text

from mcis_cli.cli.terminal.output import console, plain
from mcis_cli.errors import counted


def percent(fraction: float | None) -> str:
    """A fraction in percent with one decimal, or a dash."""
    return "–" if fraction is None else f"{100 * fraction:.1f}"


def print_scores(metrics: Mapping[str, Any]) -> None:
    """IoU of every class and their mean, and under it what exactly was measured."""
    from mcis_cli.stages import stages

    subject = stages()[metrics["subject"]].title
    table = Table(title=Text(plain(f"{subject}, split {metrics['split']}")), title_justify="left")
    table.add_column("class")
    table.add_column("IoU %", justify="right")
    for name, iou in metrics["iou"].items():
        table.add_row(Text(plain(name)), percent(iou))
    table.add_section()
    table.add_row(Text("mean", style="bold"), Text(percent(metrics["mean_iou"]), style="bold"))
    out = console()
    out.print(table)
    out.print(Text(plain(describe(metrics))))


def describe(metrics: Mapping[str, Any]) -> str:
    """On how many images, by which initialisation, how: without this a score says nothing."""
    from mcis_cli.stages import kind_of

    kind = kind_of(metrics["subject"])
    parts = [counted(metrics["num_images"], "image"), f"initialised from {metrics['initialisation']}"]
    if kind == "network":
        parts.append(f"trained on {'ground truth' if metrics['supervision'] == 'full' else 'pseudo masks'}")
        before = metrics.get("mean_iou_before_crf")
        without = "" if before is None else f" ({percent(before)} % without it)"
        parts.append(f"with CRF{without}" if metrics["crf"] else "without CRF")
        parts.append(f"scales {', '.join(f'{scale:g}' for scale in metrics['scales'])}")
        parts.append("with mirror" if metrics["flip"] else "without mirror")
    if "threshold" in metrics:
        chosen = " (chosen with ground truth)" if metrics["threshold_chosen_with_ground_truth"] else ""
        parts.append(f"background threshold {metrics['threshold']:g}{chosen}")
    if kind == "pseudo masks":
        parts.append(f"{percent(metrics['coverage'])} % of the pixels labelled, ignored ones count as missed")
        parts.append(f"{percent(metrics['mean_iou_covered'])} % on labelled pixels alone")
    return "; ".join(parts)
