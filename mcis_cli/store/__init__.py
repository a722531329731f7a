"""Artifacts: identity, segments, sealing, finding. The only importer of h5py, on demand.

docs/reference/artifact-format.md specifies the files.
"""

from mcis_cli.store.artifact import Artifact
from mcis_cli.store.format.identity import ContentHash, Recipe, Record, Schema, canonical_json
from mcis_cli.store.segments import SEGMENT_SIZE, Partial, segments_of
from mcis_cli.store.stat_cache import StatCache
from mcis_cli.store.store import Store, open_store
from mcis_cli.store.workplace import Begun

__all__ = [
    "SEGMENT_SIZE",
    "Artifact",
    "Begun",
    "ContentHash",
    "Partial",
    "Recipe",
    "Record",
    "Schema",
    "StatCache",
    "Store",
    "canonical_json",
    "open_store",
    "segments_of",
]
