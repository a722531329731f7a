"""A setting is one field: a toy added to one file is found wherever settings are found, with nothing else touched."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from run_commands import environment

ROOT = Path(__file__).parents[2]
TOY = """\
    toy_rule: Literal["plain", "odd"] = setting(
        "plain", "how toys are mapped [2]", flag=True, used=unless(refs=0), omitted_at="plain"
    )
"""
SCRIPT = """
import json
from mcis_cli.cli.session.settings_file import written
from mcis_cli.config import CamsConfig
given = CamsConfig(toy_rule="odd")
print(json.dumps({
    "recipe": given.recipe_settings().get("toy_rule"),
    "default recipe": CamsConfig().recipe_settings().get("toy_rule"),
    "without references": CamsConfig(refs=0, toy_rule="odd").recipe_settings().get("toy_rule"),
    "implied": CamsConfig.implied_by({"refs": 3}).get("toy_rule"),
    "warning": CamsConfig(refs=0).without_effect(["toy_rule"]),
    "file": next(line for line in written("paper", {}).splitlines() if "toy_rule" in line),
}))
"""
PAGES = """
import sys
sys.path.insert(0, "docs/scripts")
import generate
print(*generate.pages().values())
"""


@pytest.fixture(scope="module")
def toy(tmp_path_factory):
    """Runs Python with a copy of the package whose maps have one more setting."""
    folder = tmp_path_factory.mktemp("toy")
    shutil.copytree(ROOT / "mcis_cli", folder / "mcis_cli", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copytree(ROOT / "docs", folder / "docs", ignore=shutil.ignore_patterns("images"))
    section = folder / "mcis_cli/config/sections/cams.py"
    before, mark, after = section.read_text(encoding="utf-8").partition("    localization: ")
    section.write_text(before + TOY + mark + after, encoding="utf-8")

    def run(*arguments: str, **variables: str) -> str:
        variables = {"PYTHONPATH": str(folder), "COLUMNS": "200", **variables}
        done = subprocess.run(
            [sys.executable, *arguments], cwd=folder, env=environment(**variables), capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    return run


def test_help_has_its_flag_with_choices_and_condition(toy):
    words = " ".join(toy("-m", "mcis_cli", "cams", "--help").split())
    assert "--toy-rule plain|odd How toys are mapped. No effect with --refs 0." in words


@pytest.mark.parametrize(
    ("line", "offered"),
    [
        ("mcis cams --toy-rule ", ["plain", "odd"]),
        ("mcis cams --toy", ["--toy-rule"]),
        ("mcis run --set cams.toy_rule=", ["cams.toy_rule=plain", "cams.toy_rule=odd"]),
    ],
)
def test_completion_offers_it(toy, line, offered):
    count = str(len(line.split(" ")) - 1)
    answer = toy("-m", "mcis_cli", _MCIS_COMPLETE="complete_bash", COMP_WORDS=line, COMP_CWORD=count)
    assert answer.split() == offered


def test_config_shows_it_with_its_origin(toy):
    shown = toy("-m", "mcis_cli", "config", "show", "cams", "--set", "cams.toy_rule=odd")
    line = next(line for line in shown.splitlines() if "toy_rule" in line)
    assert line.split() == ["cams.toy_rule", "=", '"odd"', "--set"]


def test_recipes_warnings_and_the_file_of_settings_have_it(toy):
    assert json.loads(toy("-c", SCRIPT)) == {
        "recipe": "odd",
        "default recipe": None,
        "without references": None,
        "implied": "plain",
        "warning": {"toy_rule": "with --refs 0"},
        "file": '# toy_rule = "plain"                      # how toys are mapped [2]',
    }


def test_the_generated_reference_has_it_on_both_pages(toy):
    pages = toy("-c", PAGES)
    assert "| `--toy-rule plain\\|odd` | How toys are mapped. No effect with --refs 0. Default: plain. |" in pages
    row = next(line for line in pages.splitlines() if line.startswith("| `toy_rule` |"))
    assert row.startswith("| `toy_rule` | `plain`, `odd` | `plain` |")
    assert "how toys are mapped ([2](../explanation/differences-from-the-paper.md))" in row
