"""The layouts of data, in the order in which a folder is asked for them: the first that matches is read."""

from mcis_cli.data.layouts import coco, folders, table, voc
from mcis_cli.data.layouts.layout import Layout

LAYOUTS: tuple[Layout, ...] = (
    voc.LAYOUT,
    coco.LAYOUT,
    table.LAYOUT,
    folders.LAYOUT,
)
