"""Names of stages are written in their own rooms; elsewhere, declarations are asked."""

import ast

import pytest
from figures import stage_literals, trees


def test_no_name_of_a_stage_is_written_elsewhere() -> None:
    assert stage_literals(trees()) == []


@pytest.mark.parametrize(
    "line",
    [
        'if artifact.stage == "cams": pass',
        'titles = {"train-cls": "classifier"}',
        'upstream_reference(artifact, "train-seg")',
        'scores = planned["eval"]',
        'if artifact.stage == "affinity": pass',
    ],
)
def test_a_name_of_a_stage_is_found(line: str) -> None:
    (found,) = stage_literals({"report/page.py": ast.parse(line)})
    assert found.startswith("mcis_cli/report/page.py:1: ")


@pytest.mark.parametrize(
    ("path", "line"),
    [
        ("report/page.py", 'if config.background == "affinity": pass'),
        ("report/page.py", 'supervision = meta.get("supervision", "pseudo")'),
        ("cli/commands/export.py", 'flags = SectionFlags("eval", "crf")'),
        ("cli/commands/export.py", 'given = flags.tables["eval"]'),
        ("cli/commands/datasets.py", 'background = chosen["pseudo"]["background"]'),
        ("cli/commands/datasets.py", 'settings = {"train-seg": {"seed": 0}}'),
        ("data/layouts/split_names.py", 'names = {"eval": "val"}'),
        ("config/sections/__init__.py", 'names = ["train-cls"]'),
        ("stages/cams/run.py", 'name = "cams"'),
    ],
)
def test_sections_and_values_of_settings_are_no_names_of_stages(path: str, line: str) -> None:
    assert stage_literals({path: ast.parse(line)}) == []
