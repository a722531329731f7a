"""Checks the annotated shapes of the models' tensor functions at run time, in tests only."""

from jaxtyping import install_import_hook

install_import_hook("mcis_cli.models", "beartype.beartype")
