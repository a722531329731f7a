"""The layouts of data, in the order in which they are tried; the first that matches is read.

`config.sections.data.LayoutName` lists their names; each is the `LAYOUT` of a file in this folder.
"""

from importlib import import_module
from typing import get_args

from mcis_cli.config.sections.data import LayoutName
from mcis_cli.data.layouts.layout import Layout


def _load(name: str) -> Layout:
    layout: Layout = import_module(f"mcis_cli.data.layouts.{name.replace('-', '_')}").LAYOUT
    assert layout.name == name, name
    return layout


LAYOUTS: tuple[Layout, ...] = tuple(_load(name) for name in get_args(LayoutName) if name != "auto")
