"""The differences of two recipes of a stage: settings, artifacts, and changed images, tags, masks and saliency maps."""

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from mcis_cli.config.setting import changed_settings, flat
from mcis_cli.data.catalogue import Catalogue
from mcis_cli.data.records import SCHEMA_WITH_SOURCES, as_records
from mcis_cli.stages import stages
from mcis_cli.stages.materials import DATASET
from mcis_cli.stages.plan.lineage import artifact_of
from mcis_cli.store import Recipe, Store
from mcis_cli.store.notes import Done

_NOUNS = {"images": "images", "labels": "tags", "masks": "masks", "saliency": "saliency maps", "splits": "splits"}
_FIELDS = {  # of records of a data set, by part
    "images": ("digest",),
    "labels": ("labels", "domain"),
    "masks": ("mask_digest",),
    "saliency": ("saliency_digest",),
    "splits": ("splits",),
}


@dataclass(frozen=True)
class Difference:
    """A changed field of a recipe: its name with dots, both values (None: absent), and words."""

    field: str
    then: Any
    now: Any
    text: str


def compare(then: Recipe, now: Recipe, texts: Mapping[str, str] | None = None) -> Iterator[Difference]:
    """The fields in which two recipes of one stage differ, with words for inputs that differ, by role."""
    if then.version != now.version:
        yield Difference("version", then.version, now.version, f"{then.version}, now {now.version}")
    before, after = _settings(then, now), _settings(now, then)
    for name in changed_settings(before, after):
        words = [_as_text(values[name]) if name in values else "without effect" for values in (before, after)]
        yield Difference(f"config.{name}", before.get(name), after.get(name), f"{words[0]}, now {words[1]}")
    for role in sorted({*then.inputs, *now.inputs}):
        was, is_now = then.inputs.get(role), now.inputs.get(role)
        if was != is_now:
            text = (texts or {}).get(role) or f"{_short(was)}, now {_short(is_now)}"
            yield Difference(f"inputs.{role}", was, is_now, text)


def input_changes(then: Recipe, now: Recipe, done: Done | None, images: Catalogue, store: Store) -> dict[str, str]:
    """Words for the inputs of two recipes that differ, by role: names of artifacts, or counts of changed images.

    Args:
        then: the recipe that was made or begun.
        now: the present one.
        done: the result of the first.
        images: the images that the second reads.
        store: the store.
    """
    stage = stages().get(then.stage)
    work = stage.work if stage is not None else None
    reads = frozenset(_NOUNS) if work is None else work.reads
    texts = {}
    for role in {*then.inputs} & {*now.inputs}:
        if then.inputs[role] == now.inputs[role]:
            continue
        before, after = (artifact_of(digest, store) for digest in (then.inputs[role], now.inputs[role]))
        to = now.inputs[role] if after is None else after.path.stem
        if work is not None and role.partition(" ")[0] in work.roles:
            if len(to) != 64:  # a name, or words for an artifact that does not exist yet
                texts[role] = f"{then.inputs[role][:12] if before is None else before.path.stem}, now {to}"
        elif role in ("files", "images", "references", *_NOUNS):
            parts = frozenset({role}) if role in ("masks", "saliency") else reads
            texts[role] = _image_changes(then, done, store, images, parts, role)
    return texts


def _image_changes(
    then: Recipe, done: Done | None, store: Store, images: Catalogue, parts: frozenset[str], role: str
) -> str:
    """The differences of images, tags, masks or saliency maps, if the earlier list is in the store."""
    nouns = [noun for part, noun in _NOUNS.items() if part in parts]
    other = f"other {' or '.join(nouns)}" if len(nouns) < 3 else "another data set"
    files = then.inputs.get("files") if then.stage == DATASET.name else (done.meta.get("dataset") if done else None)
    dataset = store.find(DATASET.recipe({}, {"files": files})) if isinstance(files, str) else None
    if dataset is None:
        return other
    stage = stages()[then.stage]
    domains = None if stage.work is None else stage.work.domains(then, role)
    with dataset:
        if parts != {"images"} and list(dataset.meta["class_names"]) != list(images.class_names):
            return f"{other}: other classes"
        split = None if done is None or stage is DATASET else done.meta.get("split")
        records = ((image_id, _as_bytes(fields)) for image_id, fields in dataset.records())
        before = {image_id: fields for image_id, fields in records if _belongs(fields, split, domains)}
    after = {image_id: _as_bytes(fields) for image_id, fields in as_records(images, SCHEMA_WITH_SOURCES)}
    compared = [name for part in parts for name in _FIELDS[part]]
    common = before.keys() & after.keys()
    changed = sum(any(before[one][name] != after[one][name] for name in compared) for one in common)
    counts = {"added": len(after) - len(common), "removed": len(before) - len(common), "changed": changed}
    listed = [f"{count} {word}" for word, count in counts.items() if count]
    return f"{other}: {', '.join(listed)}" if listed else other


def _as_bytes(fields: Mapping[str, Any]) -> dict[str, bytes]:
    """The fields of a record of a data set, without the domain for sets without sources."""
    return {"domain": b"target", **{name: array.tobytes() for name, array in fields.items()}}


def _belongs(fields: Mapping[str, bytes], split: object, domains: Collection[str] | None) -> bool:
    domain = fields["domain"].decode()
    if domains is not None and (domain != "target" or domain not in domains):
        return domain in domains
    return split in (None, "all") or split in fields["splits"].decode().split("\n")


def _settings(of: Recipe, beside: Recipe) -> dict[str, Any]:
    """The settings of a recipe, with the first default of settings that it omits and the other one has."""
    section = stages()[of.stage].section if of.stage in stages() else None
    implied = section.implied_by(of.config) if section is not None else {}
    named = {name: value for name, value in implied.items() if name in beside.config}
    return {**named, **dict(flat(of.as_dict()["config"]))}


def _as_text(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else "none" if value is None else str(value)


def _short(digest: str | None) -> str:
    return "none" if digest is None else digest[:12] if len(digest) == 64 else digest
