"""What `import mcis_cli` gives, and what it does not import for that."""

import ast
import json
import subprocess
import sys
from pathlib import Path

import pytest

import mcis_cli

ROOT = Path(__file__).parents[2]
SCRIPT = """
import json, sys
import mcis_cli
first = sorted({"torch", "h5py", "numpy", "pydantic"} & set(sys.modules))
mcis_cli.open_store, mcis_cli.resolve, mcis_cli.RunOptions, mcis_cli.DataConfig
print(json.dumps([first, sorted({"torch", "h5py"} & set(sys.modules))]))
"""


def test_importing_the_package_imports_nothing_large_and_settings_and_store_need_no_torch():
    done = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) == [[], []]


def test_every_public_name_is_found_listed_and_known_to_type_checkers():
    tree = ast.parse(Path(mcis_cli.__file__).read_text(encoding="utf-8"))
    typed = {
        alias.asname: (node.module.removeprefix("mcis_cli."), alias.name)
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and node.module.startswith("mcis_cli.")
        for alias in node.names
    }
    assert typed == mcis_cli._HOMES
    for name in mcis_cli._HOMES:
        assert name in dir(mcis_cli)
        assert callable(getattr(mcis_cli, name))


def test_the_page_about_python_lists_every_public_name():
    page = (ROOT / "docs/reference/python.md").read_text(encoding="utf-8")
    assert not [name for name in mcis_cli._HOMES if f"`{name}`" not in page]


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
        _ = mcis_cli.nothing
