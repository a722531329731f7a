"""What the contracts of import-linter cannot see: submodules of other packages, and when torch comes."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import mcis_cli

PACKAGE = Path(mcis_cli.__file__).parent
HEAVY = ("torch", "torchvision", "timm", "h5py", "scipy")


def imported_by(file: Path) -> set[str]:
    """The dotted names that a module imports, `from a import b` as `a.b`."""
    nodes = list(ast.walk(ast.parse(file.read_text(encoding="utf-8"))))
    names = {alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names}
    froms = [node for node in nodes if isinstance(node, ast.ImportFrom)]
    return names | {f"{node.module}.{alias.name}" for node in froms for alias in node.names}


def test_data_does_without_networks():
    found = {name for file in PACKAGE.glob("data/**/*.py") for name in imported_by(file)}
    assert any(name.startswith("torch") for name in found), "tensors are what augmentation makes"
    assert not {name for name in found if name.startswith("torch.nn")}


@pytest.mark.parametrize("module", ["mcis_cli", "mcis_cli.cli.app"])
def test_importing_the_package_or_its_commands_brings_nothing_heavy(module: str):
    code = f"import {module}, sys; print(sorted(set({HEAVY}) & set(sys.modules)))"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == "[]"


def test_networks_for_cpus_are_built_without_libraries_of_networks():
    """Importing these takes about as long as importing PyTorch, in every process that loads a network."""
    code = """if True:
        import sys
        from mcis_cli.models.backbones import build_backbone
        from mcis_cli.stages.engine import networks
        build_backbone("lite0")
        print({"timm", "torchvision"} & {*sys.modules})
        """
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == "set()"


@pytest.mark.slow
def test_no_test_module_imports_another():
    """What two need is in `tests/helpers`, whose modules are imported by their bare names."""
    tests = Path(__file__).parents[1]
    modules = {file.stem for file in tests.glob("**/test_*.py")}
    found = {f"{file.name}: {name}" for file in tests.glob("**/*.py") for name in imported_by(file)}
    assert not {one for one in found if one.split(": ")[1].split(".")[0] in modules}
