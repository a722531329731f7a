"""`python -m fuzz TARGET …`: fuzz one parser; without a name, list them."""

import importlib.util
import sys
import warnings

from fuzz.harness import main, main_with_atheris

warnings.simplefilter("ignore")
if importlib.util.find_spec("atheris"):
    import atheris

    with atheris.instrument_imports(include=["mcis_cli"]):
        from fuzz.targets import TARGETS
else:  # mutants at random will do
    atheris = None
    from fuzz.targets import TARGETS

if len(sys.argv) < 2 or sys.argv[1] not in TARGETS:
    sys.exit(f"expected one of {', '.join(TARGETS)}")
name = sys.argv.pop(1)
if atheris:
    main_with_atheris(atheris, *TARGETS[name])
else:
    main(f"fuzz {name}", *TARGETS[name])
