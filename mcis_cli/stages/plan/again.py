"""The command that makes an artifact again, to the same id: from its recipe, and from how it was made."""

import json
import re
import shlex
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from mcis_cli.config import PRESETS, DataConfig, Settings
from mcis_cli.data.places import may_exist
from mcis_cli.errors import McisError, MissingError
from mcis_cli.stages import kind_of, stages
from mcis_cli.stages.engine.starting_weights import starting_identity
from mcis_cli.stages.materials import DATASET
from mcis_cli.stages.stage import Work, further_inputs
from mcis_cli.store import Store
from mcis_cli.store.artifact import ID_DIGITS
from mcis_cli.store.notes import Done

SettingsOf = Callable[[Any], Settings]  # of a preset: the settings of a command without other flags


def command_of(done: Done, known: Mapping[str, Done], store: Store, settings_of: SettingsOf) -> str:
    """The command line, with a placeholder in capitals for everything that the store does not know.

    Args:
        done: the artifact, and how it was made.
        known: all known artifacts, by content id.
        store: remembers where the images are.
        settings_of: the settings without flags.

    Raises:
        MissingError: no command of this release makes it again.
    """
    recipe = done.recipe
    if recipe.config.get("imported"):
        raise MissingError("it was imported; run `mcis import` again with the files that it was made of")
    place = _place(done, store)
    if recipe.stage == DATASET.name:
        return shlex.join(["mcis", "check", place.root if place else "FOLDER"])
    stage = stages().get(recipe.stage)
    if stage is None or stage.work is None:
        raise MissingError(f"run the command again that made it: {recipe.stage}")
    if recipe.version < stage.version:
        raise MissingError(
            f"it is of version {recipe.version} of {recipe.stage}, this mcis makes version {stage.version}; install "
            "the release that made it"
        )
    words = [*_program(done), stage.work.command]
    upstream = _upstream(done, stage.work, known)
    words += [] if upstream is None else [one[:ID_DIGITS] for one in (upstream, *further_inputs(done.recipe))]
    words += _images(done, place, is_first=upstream is None, takes_folder=not stage.work.roles)
    words += _other_inputs(done, upstream, known)
    named = done.provenance.get("preset")
    preset = str(named) if named in list(PRESETS) else "paper"  # its settings are the defaults that recipes omit
    return shlex.join([*words, "--preset", preset, *_settings(done, stage.work, known, settings_of(preset))])


def _place(done: Done, store: Store) -> DataConfig | None:
    """Where the images are, as far as the store remembers."""
    dataset = done.recipe.inputs.get("files") or str(done.meta.get("dataset"))
    return DataConfig.remembered(store.location(dataset)) if re.fullmatch("[0-9a-f]{64}", dataset) else None


def _program(done: Done) -> Iterator[str]:
    """`mcis`, with the number of threads, which changes bits on a CPU, and the number of processes that train
    together."""
    threads = done.provenance.get("machine", {}).get("threads")
    if isinstance(threads, int):
        yield f"OMP_NUM_THREADS={threads}"
    processes = done.recipe.config.get("processes", 1)
    if processes == 1:
        yield "mcis"
    else:
        yield from ("torchrun", "--standalone", f"--nproc-per-node={processes}", "-m", "mcis_cli")


def _upstream(done: Done, work: Work, known: Mapping[str, Done]) -> str | None:
    """The content id of the artifact that the command takes; None if it starts from images."""
    inputs = done.recipe.inputs
    if not work.roles or done.recipe.config.get("supervision") == "full":
        return None
    first = inputs.get(next(iter(work.roles)), inputs.get("network", ""))
    before = known.get(first)
    if before is not None and _is_of(before, work.command):  # the same command makes it as an intermediate step
        earlier = stages()[before.recipe.stage].work
        return before.recipe.inputs.get(next(iter(earlier.roles)), first) if earlier is not None else first
    return first


def _is_of(done: Done, command: str) -> bool:
    stage = stages().get(done.recipe.stage)
    return stage is not None and stage.work is not None and stage.work.command == command


def _images(done: Done, place: DataConfig | None, *, is_first: bool, takes_folder: bool) -> Iterator[str]:
    if is_first or place is None or not may_exist(place.root):
        folder = place.root if place is not None and may_exist(place.root) else "FOLDER"
        yield from ([folder] if takes_folder else ["--data", folder])
    if is_first:
        split = str(done.meta.get("split"))
        found = (place or DataConfig()).model_copy(update={"train": split}).model_dump(mode="json")
        yield from _assignments("data", found, {**DataConfig().model_dump(mode="json"), "root": found["root"]})


def _other_inputs(done: Done, upstream: str | None, known: Mapping[str, Done]) -> Iterator[str]:
    inputs, config = done.recipe.inputs, done.recipe.config
    if "weights" in inputs:
        try:
            is_published = starting_identity(str(config.get("backbone")), None) == inputs["weights"]
        except McisError:
            is_published = False
        if not is_published:
            yield from ("--weights", inputs["weights"][:ID_DIGITS] if inputs["weights"] in known else "FILE")
    if "regions" in inputs:
        yield from ("--regions", "FOLDER")
    for role in ("saliency", "network", "corrected"):
        if role in inputs and inputs[role] in known and inputs[role] != upstream:
            yield from (f"--{role}", inputs[role][:ID_DIGITS])


def _settings(done: Done, work: Work, known: Mapping[str, Done], settings: Settings) -> Iterator[str]:
    """The settings of all its stages that differ from those of the command without flags."""
    section = work.config(settings)
    base = section.model_dump(mode="json")
    made = [known[digest] for digest in done.recipe.inputs.values() if digest in known]
    config: dict[str, Any] = {}
    for one in (*made, done):
        if _is_of(one, work.command):
            config |= {**type(section).implied_by(one.recipe.config), **one.recipe.config}
    if base.get("split") is None and config.get("split") == _split_if_none_is_named(done, known):
        config.pop("split", None)
    yield from _assignments(work.section.replace("_", "-"), {k: v for k, v in config.items() if k in base}, base)


def _split_if_none_is_named(done: Done, known: Mapping[str, Done]) -> object:
    """Maps: the split that their classifier was trained on. Scores of maps and masks: all images that these have."""
    inputs = done.recipe.inputs
    if "classifier" in inputs:
        classifier = known.get(inputs["classifier"])
        return classifier.meta.get("split") if classifier else None
    scored = known.get(inputs.get("artifact", ""))
    return done.meta.get("split") if scored is not None and kind_of(scored.recipe.stage) != "network" else None


def _assignments(section: str, values: Mapping[str, Any], base: Mapping[str, Any]) -> Iterator[str]:
    for name, value in values.items():
        if value is not None and value != base.get(name):
            yield from ("--set", f"{section}.{name}={_toml(value)}")


def _toml(value: Any) -> str:
    if isinstance(value, Mapping):
        return f"{{{', '.join(f'{name} = {_toml(found)}' for name, found in value.items() if found is not None)}}}"
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(_toml, value))}]"
    return json.dumps(value, ensure_ascii=False)
