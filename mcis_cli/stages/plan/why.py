"""Why a stage would run again: the difference of two recipes, field by field. No torch, nothing computed."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from mcis_cli.config import DataConfig, Settings
from mcis_cli.data.catalogue import Catalogue
from mcis_cli.errors import MissingError
from mcis_cli.stages import stages
from mcis_cli.stages.engine.inputs import look_at_images
from mcis_cli.stages.materials import DATASET, dataset_recipe
from mcis_cli.stages.plan.chain import Step, chain_of, made_or_expected, request, step_of
from mcis_cli.stages.plan.differences import Difference, compare, input_changes
from mcis_cli.stages.plan.lineage import artifact_of, recipe_of
from mcis_cli.stages.stage import Expected, Wanted, further_inputs
from mcis_cli.store import Artifact, Recipe, Store
from mcis_cli.store.notes import Done


@dataclass(frozen=True)
class Explanation:
    """How a recipe that was made or begun differs from the one that a configuration describes.

    Attributes:
        then: the recipe.
        made: the name of its artifact, if it was made.
        exists: whether that artifact is in the store.
        differences: empty if the artifact would be reused.
    """

    then: Recipe
    made: str | None
    exists: bool
    differences: tuple[Difference, ...]


def explain(ref: str, settings: Settings, data: DataConfig, store: Store) -> Explanation:
    """Compare a recipe with the one that a configuration describes.

    Args:
        ref: an artifact, as in `Store.get`; 8 or more digits of a key; or a stage, which stands for its newest.
        settings: the settings to compare with.
        data: where the images are.
        store: the store.

    Raises:
        MissingError: nothing of that name was made or begun.
    """
    then, done = recipe_of(ref, store)
    file = None if done is None else store.root / "artifacts" / done.file_name
    images = look_at_images(data, store)
    now, made = dataset_recipe(images), dict[str, Artifact | Expected]()
    if then.stage != DATASET.name:
        made = made_or_expected(settings, data, store, images)
        wanted = _asked(then, made, settings, data, store, images)
        now, images = _at_same_precision(then, wanted), wanted.images
    texts = input_changes(then, now, done, images, store)
    if waiting := [one for one in made.values() if isinstance(one, Expected)]:
        ends = {one.id: f"; why: mcis show --why {waiting[0].stage}" for one in waiting}
        texts = {role: f"{text}{ends.get(now.inputs[role], '')}" for role, text in texts.items()}
    return Explanation(
        then, file.stem if file else None, file is not None and file.exists(), tuple(compare(then, now, texts))
    )


def reasons(wanted: Wanted, known: Sequence[Done], store: Store) -> tuple[str, ...]:
    """Why something would be computed: how it differs from the most similar artifact of its stage.

    Args:
        wanted: the request, whose artifact does not exist.
        known: the artifacts to compare with, all of its stage, the newest last.
        store: the store.
    """
    if not known:
        return (f"nothing of {wanted.stage} was made before",)
    compared = [(one, _at_same_precision(one.recipe, wanted)) for one in reversed(known)]
    nearest, now = min(compared, key=lambda pair: len(list(compare(pair[0].recipe, pair[1]))))
    texts = input_changes(nearest.recipe, now, nearest, wanted.images, store)
    found = [f"{one.field.removeprefix('config.')}: {one.text}" for one in compare(nearest.recipe, now, texts)]
    return tuple(found) or (f"{nearest.file_name.removesuffix('.h5')} is gone",)


def _asked(
    then: Recipe,
    made: Mapping[str, Artifact | Expected],
    settings: Settings,
    data: DataConfig,
    store: Store,
    images: Catalogue,
) -> Wanted:
    """What the configuration asks of the stage of a recipe now. It starts from what the recipe started from where the
    chain makes nothing of that kind. If a chain has the stage more than once, the most similar step counts."""
    stage, chain = stages().get(then.stage), chain_of(settings)
    if stage is None or stage.work is None:
        raise MissingError(f"no chain has the stage {then.stage}, so no settings lead to it; `mcis show` describes it")
    more = tuple(filter(None, (artifact_of(digest, store) for digest in further_inputs(then))))

    def ask(step: Step) -> Wanted:
        inputs: dict[str, Artifact | Expected] = {}
        for role, start in step.starts.items():
            before: Artifact | Expected | None = artifact_of(then.inputs.get(role, ""), store)
            if before and not more:
                is_same = start in chain and chain[start].stage == before.stage
                before = made[start] if is_same else made.get(before.stage, before)
            inputs[role] = before or made[start]
        return stage.ask(replace(request(step.settings, data, images, inputs), more=more))

    steps = [step for step in chain.values() if step.stage == then.stage] or [step_of(then.stage, settings, chain)]
    asked = [ask(step) for step in steps]
    return min(asked, key=lambda one: len(list(compare(then, _at_same_precision(then, one)))))


def _at_same_precision(then: Recipe, wanted: Wanted) -> Recipe:
    """The present recipe, at the precision of another one if it is "auto"."""
    same = (one for one in wanted.recipes if one.config.get("precision") == then.config.get("precision"))
    return next(same, wanted.recipes[0])
