"""Why a stage would run again: the difference of two recipes, field by field. No torch, nothing computed."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mcis_cli.config import DataConfig, Settings
from mcis_cli.data.catalogue import Catalogue
from mcis_cli.errors import MissingError
from mcis_cli.stages import command_of, stages
from mcis_cli.stages.engine.inputs import look_at_images
from mcis_cli.stages.materials import DATASET, dataset_recipe
from mcis_cli.stages.plan.chain import chain_of, plan, request, sources
from mcis_cli.stages.plan.changes import artifact_of, input_changes, recipe_of
from mcis_cli.stages.stage import Wanted
from mcis_cli.store import Artifact, Recipe, Store
from mcis_cli.store.artifact import file_name
from mcis_cli.store.notes import Done


@dataclass(frozen=True)
class Difference:
    """A field of a recipe that has another value now: its name with dots, both values (None: absent), and words."""

    field: str
    then: Any
    now: Any
    text: str


@dataclass(frozen=True)
class Explanation:
    """How a recipe that was made or begun differs from the one that a configuration asks for.

    Attributes:
        then: the recipe.
        made: the name of the artifact that came of it, if it was made.
        exists: whether that is in the store.
        differences: none where the artifact would be reused.
    """

    then: Recipe
    made: str | None
    exists: bool
    differences: tuple[Difference, ...]


def explain(ref: str, settings: Settings, data: DataConfig, store: Store) -> Explanation:
    """Compare a recipe with the one that a configuration asks for.

    Args:
        ref: an artifact, as in `Store.get`; 8 or more digits of a key; or a stage, which stands for its newest.
        settings: the settings that are asked for.
        data: where the images are.
        store: the store.

    Raises:
        MissingError: nothing of that name was made or begun.
    """
    then, done = recipe_of(ref, store)
    name = None if done is None else file_name(then.stage, done.id).removesuffix(".h5")
    exists = name is not None and (store.root / "artifacts" / f"{name}.h5").exists()
    catalogue, waiting = look_at_images(data, store), dict[str, Difference]()
    now: Recipe | None = dataset_recipe(catalogue)
    if then.stage != DATASET.name:
        wanted, waiting = _asked(then, settings, data, store, catalogue)
        now = None if wanted is None else _at_same_precision(then, wanted)
        catalogue = catalogue if wanted is None else wanted.images
    if now is None:
        return Explanation(then, name, exists, tuple(waiting.values()))
    texts = input_changes(then, now, done, catalogue, store)
    return Explanation(then, name, exists, tuple(compare(then, now, texts, waiting)))


def reasons(wanted: Wanted, known: Sequence[Done], store: Store) -> tuple[str, ...]:
    """Why something would be computed: how it differs from the most similar of what was made of its stage.

    Args:
        wanted: what is asked for and does not exist.
        known: everything that was made, oldest first.
        store: the store.
    """
    made = [done for done in reversed(known) if done.recipe.stage == wanted.stage]
    if not made:
        return (f"nothing of {wanted.stage} was made before",)
    compared = [(one, _at_same_precision(one.recipe, wanted)) for one in made]
    nearest, now = min(compared, key=lambda pair: len(list(compare(pair[0].recipe, pair[1]))))
    texts = input_changes(nearest.recipe, now, nearest, wanted.images, store)
    found = [f"{one.field.removeprefix('config.')}: {one.text}" for one in compare(nearest.recipe, now, texts)]
    return tuple(found) or (f"{file_name(wanted.stage, nearest.id).removesuffix('.h5')} is gone",)


def compare(
    then: Recipe, now: Recipe, texts: Mapping[str, str] | None = None, waiting: Mapping[str, Difference] | None = None
) -> Iterator[Difference]:
    """The fields in which two recipes of one stage differ.

    Args:
        then: a recipe.
        now: another one.
        texts: words for inputs that differ, by role.
        waiting: the differences of inputs that do not exist yet, by role.
    """
    if then.version != now.version:
        yield Difference("version", then.version, now.version, f"{then.version}, now {now.version}")
    before, after = _settings(then, now), _settings(now, then)
    changed = [name for name in sorted(before.keys() & after.keys()) if before[name] != after[name]]
    # A setting gains or loses its effect because another one changed; it has a line only where no other did.
    for name in changed or sorted(before.keys() ^ after.keys()):
        words = [_as_text(values[name]) if name in values else "without effect" for values in (before, after)]
        yield Difference(f"config.{name}", before.get(name), after.get(name), f"{words[0]}, now {words[1]}")
    for role in sorted({*then.inputs, *now.inputs, *(waiting or {})}):
        was, is_now = then.inputs.get(role), now.inputs.get(role)
        if waiting and role in waiting:
            yield waiting[role]
        elif was != is_now:
            text = (texts or {}).get(role) or f"{_short(was)}, now {_short(is_now)}"
            yield Difference(f"inputs.{role}", was, is_now, text)


def flat(config: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Settings by name; those of a nested section with its name and a dot before."""
    for name, value in config.items():
        yield from flat(value, f"{prefix}{name}.") if isinstance(value, dict) else [(f"{prefix}{name}", value)]


def _asked(
    then: Recipe, settings: Settings, data: DataConfig, store: Store, catalogue: Catalogue
) -> tuple[Wanted | None, dict[str, Difference]]:
    """What the configuration asks of the stage now, and the differences of inputs that do not exist yet, by role; in
    their place stand those that the recipe had. None where one of these is gone, too."""
    stage, chain = stages().get(then.stage), chain_of(settings)
    if stage is None or stage.work is None:
        raise MissingError(f"no chain has the stage {then.stage}, so nothing asks for it; `mcis show` describes it")
    planned = {one.stage: one.artifact for one in plan(settings, data, store, catalogue)}
    starts = sources(then.stage, chain)
    inputs: dict[str, Artifact | None] = {}
    waiting: dict[str, Difference] = {}
    for role, start in starts.items():
        before = artifact_of(then.inputs.get(role, ""), store)
        maker = start if before is None else before.stage
        if (found := planned.get(maker)) is None:
            first = next((name for name, artifact in planned.items() if artifact is None), maker)
            old = _short(then.inputs.get(role)) if before is None else before.path.stem
            text = f"{old}, now what `mcis {command_of(maker)}` has yet to make; why: mcis show --why {first}"
            waiting[role] = Difference(f"inputs.{role}", then.inputs.get(role), None, text)
        inputs[role] = found or before
    known = {role: artifact for role, artifact in inputs.items() if artifact is not None}
    if len(known) < len(inputs):
        return None, waiting
    return stage.ask(request(settings, data, catalogue, known)), waiting


def _settings(of: Recipe, beside: Recipe) -> dict[str, Any]:
    """The settings of a recipe, with those that it omits at their first default and the other one names."""
    section = stages()[of.stage].section if of.stage in stages() else None
    implied = section.implied_by(of.config) if section is not None else {}
    named = {name: value for name, value in implied.items() if name in beside.config}
    return {**named, **dict(flat(of.as_dict()["config"]))}


def _at_same_precision(then: Recipe, wanted: Wanted) -> Recipe:
    """The recipe that is asked for, at the precision of another one where that is left open."""
    same = (one for one in wanted.recipes if one.config.get("precision") == then.config.get("precision"))
    return next(same, wanted.recipes[0])


def _as_text(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else "none" if value is None else str(value)


def _short(digest: str | None) -> str:
    return "none" if digest is None else digest[:12] if len(digest) == 64 else digest
