"""Keys, results and files of a release are those of the next one, or somebody has said that they are not."""

import json
import math
import pkgutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import recipes
from golden_results import GOLDEN, keys, results

from mcis_cli import stages
from mcis_cli.store import Artifact

TOLERANCE = 2e-3
OTHER_KEY = """{} has another key. Whatever users have done of it would be done again, and what was made of it. If that
is not meant, leave name, default and spelling of the settings as they were: a key is the digest of all settings with
their defaults filled in, so a new setting changes it too. If it is meant: write "invalidates artifacts" into its line
of CHANGELOG.md, and the table anew with `python tests/helpers/golden_results.py`. What differs:
{}"""
OTHER_RESULT = """The results of {} have changed: {}. Artifacts of before would be taken for those of now. If that is
meant, raise the version in the declaration of the stage {} (so that nothing done before is taken), write "changes
results, invalidates artifacts" into its line of CHANGELOG.md, and then the golden files anew with `python
tests/helpers/golden_results.py`. If it is not, the change has a fault."""


def differences(found: Any, expected: Any, where: str = "") -> Iterator[str]:
    """Where two JSON values differ; numbers with a fraction by more than machines do."""
    if isinstance(found, dict) and isinstance(expected, dict):
        for name in sorted({*found, *expected}):
            if name in found and name in expected:
                yield from differences(found[name], expected[name], f"{where}.{name}")
            else:
                yield f"{where}.{name} is {'new' if name in found else 'gone'}"
    elif isinstance(found, list | tuple) and isinstance(expected, list) and len(found) == len(expected):
        for number, pair in enumerate(zip(found, expected, strict=True)):
            yield from differences(*pair, f"{where}[{number}]")
    elif isinstance(found, float) and isinstance(expected, float):
        if not math.isclose(found, expected, rel_tol=TOLERANCE, abs_tol=TOLERANCE):
            yield f"{where} is {found}, was {expected}"
    elif found != expected:
        yield f"{where} is {found}, was {expected}"


def read(name: str) -> Any:
    return json.loads((GOLDEN / name).read_text(encoding="utf-8"))


@pytest.mark.promise
def test_equal_settings_and_inputs_have_the_key_that_they_had():
    found, expected = json.loads(json.dumps(keys())), read("keys.json")
    if found == expected:
        return
    lost = [entry for name, entry in expected.items() if found.get(name) != entry]
    told = [
        line
        for entry in lost
        for other in found.values()
        if other["recipe"]["stage"] == entry["recipe"]["stage"] and set(other["variants"]) & set(entry["variants"])
        for line in differences(other["recipe"], entry["recipe"])
    ]
    stages = sorted({entry["recipe"]["stage"] for entry in lost})
    pytest.fail(OTHER_KEY.format(" and ".join(stages) or "A new variant", "\n".join(told)))


def test_the_table_has_every_stage_and_every_preset():
    table = read("keys.json")
    assert {entry["recipe"]["stage"] for entry in table.values()} == set(recipes.VERSIONS)
    assert {name for entry in table.values() for name in entry["variants"]} > {"paper", "released", "quick"}
    assert len(table) >= 20


@pytest.mark.promise
@pytest.mark.slow
def test_the_golden_input_has_the_results_that_it_had(one_thread):
    expected = read("results.json")
    found = json.loads(json.dumps(results()))
    assert found.keys() == recipes.VERSIONS.keys()
    for stage, made in found.items():
        changed = list(differences(made, expected["results"][stage], stage))
        if expected["versions"][stage] == recipes.VERSIONS[stage]:
            assert not changed, OTHER_RESULT.format(stage, "; ".join(changed[:5]), stage)
        else:
            pytest.fail(
                f"the version of {stage} is {recipes.VERSIONS[stage]}, was {expected['versions'][stage]}: write the "
                "golden files anew with `python tests/helpers/golden_results.py`"
            )


# By stage: a function that it calls, and a change of it.
CHANGES = {
    "train-cls": (
        "mcis_cli.stages.train_cls.pair_batches.classification_view",
        lambda view: lambda *a, **k: view(*a, **k).flip(-1),
    ),
    "cams": ("mcis_cli.stages.cams.mapping.draw_references", lambda draw: lambda *a, **k: draw(*a, **k)[:1]),
    "pseudo": ("mcis_cli.stages.pseudo.backgrounds.enlarge", lambda enlarge: lambda *a: enlarge(*a)[:, ::-1]),
    "train-seg": ("mcis_cli.stages.train_seg.run.segmentation_loss", lambda loss: lambda *a, **k: 1.01 * loss(*a, **k)),
    "eval": ("mcis_cli.stages.evaluate.run.count_pixels", lambda count: lambda *a, **k: count(*a, **k) + 1),
}
ANOTHER = {"cams": ("mcis_cli.stages.cams.mapping.aggregate", lambda mean: lambda *a, **k: 1.01 * mean(*a, **k))}


@pytest.mark.slow
@pytest.mark.parametrize("changes", [CHANGES, ANOTHER], ids=["each stage", "one"])
def test_a_change_of_a_method_is_noticed_in_its_stage(one_thread, monkeypatch, changes):
    for target, change in changes.values():
        monkeypatch.setattr(target, change(pkgutil.resolve_name(target)))
    found, expected = json.loads(json.dumps(results())), read("results.json")["results"]
    assert {name for name in expected if list(differences(found[name], expected[name]))} == set(changes)


def test_a_change_of_results_is_told_with_what_to_do():
    told = list(differences({"a": [1, 2.0], "b": 1}, {"a": [1, 2.5], "c": 1}, "cams"))
    assert told == ["cams.a[1] is 2.0, was 2.5", "cams.b is new", "cams.c is gone"]
    assert list(differences([2.0, "x"], [2.0001, "x"])) == []


FILES = sorted((GOLDEN / "artifacts").glob("*.h5"))


@pytest.mark.promise
@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_a_file_that_was_sealed_once_stays_readable(path: Path):
    with Artifact(path) as artifact:
        assert path.name.startswith(f"{artifact.stage}-{artifact.id[:12]}")
        assert artifact.content_id() == artifact.id
        stages.check(artifact)
        records = dict(stages.read_records(artifact)) if artifact.manifest.get("schema") else artifact.tensors()
        assert records


def test_there_is_a_golden_file_of_every_stage_as_it_is_written_now():
    """Where this fails a schema is new: `python tests/helpers/golden_results.py` adds a
    file of it, and those before stay."""
    found = [Artifact(path).manifest for path in FILES]
    for stage in recipes.VERSIONS:
        schema = recipes.SCHEMAS[stage]
        expected = None if schema is None else {name: list(field) for name, field in schema.items()}
        assert any(manifest["stage"] == stage and manifest.get("schema") == expected for manifest in found), (
            f"no file in tests/golden/artifacts has the schema of {stage}"
        )
