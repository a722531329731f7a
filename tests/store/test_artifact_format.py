"""docs/reference/artifact-format.md, recomputed without the package, and with it."""

import hashlib
import json
import re
from pathlib import Path

import numpy as np
import pytest

from mcis_cli.store import Artifact, ContentHash, Recipe, canonical_json, open_store
from mcis_cli.store.format import user_block

DOC = (Path(__file__).parents[2] / "docs" / "reference" / "artifact-format.md").read_text(encoding="utf-8")
GOLDEN = Path(__file__).parents[1] / "golden" / "cams-74cea82bcdce.h5"
EXAMPLE = DOC[DOC.index("## Example") :]
BLOCKS = re.findall(r"```(?:text|json)\n(.*?)```", EXAMPLE, re.DOTALL)
RECIPE, KEY, FRAMES, CONTENT_ID, USER_BLOCK = BLOCKS
RECORDS = {
    "a/2007": {"classes": np.array([0], np.uint8), "maps": np.array([[[0.5, 1.0, 0.25]]], np.float16)},
    "b": {"classes": np.zeros(0, np.uint8), "maps": np.zeros((0, 1, 2), np.float16)},
}
SCHEMA = {"classes": ("uint8", 1), "maps": ("float16", 3)}
META = {"class_names": ["cat", "dog"]}


def recipe():
    given = json.loads(RECIPE)
    return Recipe(given["stage"], given["version"], given["config"], given["inputs"])


def test_key_of_the_example_is_the_digest_of_its_recipe():
    assert f"key {hashlib.sha256(RECIPE.strip().encode()).hexdigest()}\n" == KEY
    assert recipe().key == KEY.split()[1]
    assert canonical_json(recipe().as_dict()) == RECIPE.strip().encode()


def test_content_id_of_the_example_is_the_digest_of_its_frames():
    stream = b""
    for line in FRAMES.splitlines():
        length, data = line.split(" ", 1)
        frame = bytes.fromhex(data[2:]) if data.startswith("0x") else data.encode()
        assert int(length) == len(frame), line
        stream += len(frame).to_bytes(8, "little") + frame
    assert f"id {hashlib.sha256(stream).hexdigest()}\n" == CONTENT_ID


def test_content_id_of_the_example_is_what_the_package_computes(tmp_path):
    content = ContentHash("cams", META, SCHEMA)
    for image_id, fields in RECORDS.items():
        content.add(image_id, fields)
    assert content.hexdigest() == CONTENT_ID.split()[1]
    with open_store(tmp_path / ".mcis").begin(recipe()) as partial:
        partial.write_segment(0, SCHEMA, RECORDS.items())
        assert partial.seal(SCHEMA, 1, META, {}).id == CONTENT_ID.split()[1]


def test_content_id_of_tensors_has_not_changed():
    content = ContentHash("train-cls", {"backbone": "lite0"}, None)
    content.add_tensor("bias", np.array([True]))
    content.add_tensor("weight", np.arange(6, dtype=np.float32).reshape(2, 3))
    # made by the first release, by this very code
    assert content.hexdigest() == "8535efa03d5e46f079df34841760ac3331f1b0570e9cc57dc517723baeba1541"


def test_user_block_of_the_golden_file_is_the_one_of_the_document():
    data = GOLDEN.read_bytes()
    assert data[:512].rstrip(b"\0").decode("ascii") == USER_BLOCK
    facts = dict(line.split(" ", 1) for line in USER_BLOCK.splitlines())
    assert facts["sha256"] == hashlib.sha256(data[512:]).hexdigest()
    assert int(facts["bytes"]) == len(data)
    offset, length, digest = facts["manifest"].split()
    manifest = data[int(offset) : int(offset) + int(length)]
    assert digest == hashlib.sha256(manifest).hexdigest()
    assert json.loads(manifest)["id"] == CONTENT_ID.split()[1]


def test_the_golden_file_stays_readable():
    with Artifact(GOLDEN) as artifact:
        assert artifact.id == artifact.content_id() == CONTENT_ID.split()[1]
        assert artifact.key == recipe().key
        assert artifact.meta == META
        assert artifact.ids == tuple(RECORDS)
        for image_id, fields in RECORDS.items():
            for name, array in artifact.read(image_id).items():
                assert array.dtype == fields[name].dtype
                np.testing.assert_array_equal(array, fields[name])


def test_the_version_of_the_document_is_the_one_that_is_written():
    assert DOC.startswith(f"# The artifact file, format {user_block.VERSION}\n")


@pytest.mark.parametrize(
    "name", ["format", "id", "stage", "key", "recipe", "meta", "provenance", "schema", "num_records"]
)
def test_every_field_of_the_manifest_is_documented(name):
    assert name in Artifact(GOLDEN).manifest
    assert f"\n| `{name}` |" in DOC
