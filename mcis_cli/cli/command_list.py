"""The commands of `mcis` in the groups of its help; a command's module is imported when the command is called."""

from collections.abc import Callable, Iterator, Mapping
from importlib import import_module
from typing import Any, NamedTuple

import typer
from typer.core import TyperGroup


class Listed(NamedTuple):
    """A command: its module in `commands` and its function, and how that function's docstring begins."""

    where: str
    summary: str


GROUPS: Mapping[str, Mapping[str, Listed]] = {
    "Start": {
        "demo": Listed("demo:demo", "Run the whole chain on drawn images, in minutes on a CPU"),
        "check": Listed("datasets:check", "Report what an image set contains and what is wrong with it"),
        "init": Listed("datasets:init", "Detect the layout of an image set and write mcis.toml for it"),
        "run": Listed("chain:run", "Run all stages that mcis.toml describes, except cached ones"),
        "status": Listed("inspect:status", "Show which stages of mcis.toml are done and what is next"),
    },
    "Pipeline": {
        "train-cls": Listed("pipeline:train_cls", "Train the co-attention classifier on images with tags"),
        "cams": Listed("pipeline:cams", "Make localization maps: where in each image its tags are"),
        "average": Listed("pipeline:average", "Combine the localization maps of several classifiers"),
        "affinity": Listed("pipeline:affinity", "Refine localization maps by a random walk over AffinityNet"),
        "pseudo": Listed("pipeline:pseudo", "Turn localization maps into pseudo masks"),
        "fit": Listed("fit:fit", "Fit the thresholds of pseudo masks to corrected masks"),
        "train-seg": Listed("pipeline:train_seg", "Train a segmentation network on pseudo masks"),
        "eval": Listed("pipeline:evaluate", "Score a network, maps or pseudo masks by mean IoU"),
        "predict": Listed("predict:predict", "Write a mask for each of some photographs, with a network"),
        "saliency": Listed("saliency:saliency", "Make saliency maps with a network of the U²-Net family"),
        "ablate": Listed("ablate:ablate", "Measure rows of Table 1, 2, 4 or 5 on your images"),
    },
    "Look": {
        "review": Listed("review:review", "Rank pseudo masks by how likely they are wrong"),
        "ls": Listed("listing:ls", "List the artifacts of the store, newest last"),
        "show": Listed("inspect:show", "Show how an artifact was made, or why its stage would rerun"),
        "log": Listed("log:log", "Draw the loss curves of a training, also while it runs"),
        "report": Listed("report:report", "Write one HTML page about a run: scores, curves, galleries"),
        "config": Listed("settings:config", "Show each setting with its value and where that comes from"),
        "env": Listed("settings:env", "Show versions, devices, and which device mcis uses and why"),
    },
    "Share": {
        "export": Listed("export:export", "Write masks, maps, predictions or a network for other tools"),
        "import": Listed("imports:import_", "Import artifacts, maps, masks or weights from elsewhere"),
        "coco-masks": Listed("datasets:coco_masks", "Write ground truth from the outlines of COCO annotations"),
        "merge": Listed("keeping:merge", "Copy artifacts and finished work from other stores"),
    },
    "Store": {
        "name": Listed("keeping:name", "Give an artifact a name, which keeps it from gc, or list names"),
        "verify": Listed("verify:verify", "Check every file of the store for damage"),
        "gc": Listed("keeping:gc", "List, or remove, artifacts and files that nothing needs"),
    },
}
COMMANDS: Mapping[str, Listed] = {name: one for group in GROUPS.values() for name, one in group.items()}
MAX_SUMMARY = 65  # characters of a description, so that a line has 80

# Old spellings, and the new ones.
RENAMED: Mapping[str, str] = {
    "mcis tag": "name",
    "mcis report --out": "--output",
    "mcis train-seg --network": "--architecture",
}


def function_of(name: str) -> Callable[..., None]:
    """The function of a command, whose parameters are its arguments and options."""
    from mcis_cli.cli.session.parameters import spelled_out

    module, _, function = COMMANDS[name].where.partition(":")
    return spelled_out(getattr(import_module(f"mcis_cli.cli.commands.{module}"), function))


class _Commands(Mapping[str, Any]):
    """The commands by name, each as the parser's own object, made at its first use."""

    def __getitem__(self, name: str) -> Any:
        if name not in COMMANDS:
            raise KeyError(name)
        single = typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)
        single.command(name)(function_of(name))
        return typer.main.get_command(single)

    def __iter__(self) -> Iterator[str]:
        return iter(COMMANDS)

    def __len__(self) -> int:
        return len(COMMANDS)


class GroupedCommands(TyperGroup):
    """The commands in groups, with one line each."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        self.commands = _Commands()  # type: ignore[assignment]  # which is never added to

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        """Write the groups into the help."""
        for heading, commands in GROUPS.items():
            with formatter.section(heading):
                formatter.write_dl([(name, one.summary) for name, one in commands.items()])


def renamed(command: str, message: str) -> str | None:
    """What to type instead of a command or an option that the parser does not know; None if it never existed.

    Args:
        command: as far as it was understood: `mcis`, or `mcis report`.
        message: the parser's.
    """
    for old, new in RENAMED.items():
        before, _, word = old.rpartition(" ")
        unknown = f"No such option: {word} ", f"No such command '{word}' "
        if before == command and f"{message} ".startswith(unknown):
            return f"{word} is now called {new}"
    return None
