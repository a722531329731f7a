"""An image set as records of an artifact, one for each image, and a summary; paths are stored elsewhere."""

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

from mcis_cli.data.catalogue import TARGET, Catalogue, count_domains

if TYPE_CHECKING:
    from numpy import ndarray

SCHEMA: Mapping[str, tuple[str, int]] = {
    "digest": ("uint8", 1),
    "size": ("int32", 1),
    "labels": ("int32", 1),
    "splits": ("uint8", 1),
    "mask_digest": ("uint8", 1),
    "saliency_digest": ("uint8", 1),
}
SCHEMA_WITH_SOURCES: Mapping[str, tuple[str, int]] = {**SCHEMA, "domain": ("uint8", 1)}


def schema_of(catalogue: Catalogue) -> Mapping[str, tuple[str, int]]:
    """The fields of the records, with domains if the set has others than the target."""
    return SCHEMA if catalogue.domains <= {*TARGET} else SCHEMA_WITH_SOURCES


def as_records(
    catalogue: Catalogue, schema: Mapping[str, tuple[str, int]] = SCHEMA
) -> "Iterator[tuple[str, dict[str, ndarray]]]":
    """Give the entries as records of the data set's artifact, by id; `schema` is that of the whole set."""
    import numpy as np

    def as_bytes(digest: str | None) -> "ndarray":
        return np.frombuffer(bytes.fromhex(digest or ""), dtype=np.uint8)

    for entry in catalogue.entries:
        fields = {
            "digest": as_bytes(entry.digest),
            "size": np.array([entry.height, entry.width], dtype=np.int32),
            "labels": np.array(entry.labels, dtype=np.int32),
            "splits": np.frombuffer("\n".join(sorted(entry.splits)).encode(), dtype=np.uint8),
            "mask_digest": as_bytes(entry.mask_digest),
            "saliency_digest": as_bytes(entry.saliency_digest),
            "domain": np.frombuffer(entry.domain.encode(), dtype=np.uint8),
        }
        yield entry.id, {name: fields[name] for name in schema}


def meta(catalogue: Catalogue) -> dict[str, object]:
    """Give the manifest's summary of a data set: class names and counts."""
    splits = Counter(name for entry in catalogue.entries for name in entry.splits)
    return {
        "class_names": list(catalogue.class_names),
        "num_images": len(catalogue),
        "num_masks": sum(entry.mask is not None for entry in catalogue.entries),
        "num_saliency": sum(entry.saliency is not None for entry in catalogue.entries),
        "splits": {name: splits[name] for name in catalogue.split_names},
        **({"domains": domains} if (domains := count_domains(catalogue)).keys() - {*TARGET} else {}),
    }
