"""What an artifact is: identity, segments, sealing, finding again. The only importer of h5py, and that only on demand.

docs/reference/artifact-format.md specifies what is written.
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
