"""Work image by image in fixed segments: finished work is kept, and the order of work changes nothing."""

import numpy as np
import pytest
from tiny_chain import Heard, options

from mcis_cli.stages.engine.by_image import run_segments
from mcis_cli.store import Recipe, open_store

IDS = tuple(f"{number:03d}" for number in range(150))  # three segments: 64, 64, 22
SCHEMA = {"value": ("float32", 1)}


def recipe():
    return Recipe("cams", 1, {"refs": 3}, {"classifier": "ab" * 32})


def record(image_id):
    return image_id, {"value": np.full(int(image_id) % 4, int(image_id), dtype=np.float32)}


def run(store, *, reporter=None, compute=None, computed=None):
    def plain(ids):
        for image_id in ids:
            if computed is not None:
                computed.append(image_id)
            yield record(image_id)

    return run_segments(
        recipe(),
        store,
        options(reporter=reporter or Heard()),
        schema=SCHEMA,
        ids=IDS,
        compute=compute or plain,
        meta=lambda: {"class_names": ["cat"]},
    )


def test_records_are_all_there_and_progress_counts_them(tmp_path):
    heard = Heard()
    artifact = run(open_store(tmp_path), reporter=heard)
    assert artifact.ids == IDS
    assert heard.started == [("cams", 150, 0)]
    assert heard.advanced == 150
    for image_id in IDS[::37]:
        np.testing.assert_array_equal(artifact.read(image_id)["value"], record(image_id)[1]["value"])
    assert {"created", "workers", "versions", "machine", "seconds"} <= set(artifact.provenance)


def test_what_was_done_before_an_interruption_is_not_done_again(tmp_path):
    def until_the_second_segment(ids):
        for image_id in ids:
            if image_id == "100":
                raise KeyboardInterrupt
            yield record(image_id)

    whole = run(open_store(tmp_path / "whole"))
    store = open_store(tmp_path / "parts")
    with pytest.raises(KeyboardInterrupt):
        run(store, compute=until_the_second_segment)
    assert store.find(recipe()) is None

    heard, computed = Heard(), []
    resumed = run(store, reporter=heard, computed=computed)
    assert heard.started == [("cams", 150, 64)]
    assert computed == list(IDS[64:])
    assert resumed.id == whole.id
    assert not list((store.root / "partial").iterdir())


def test_a_damaged_segment_alone_is_done_again(tmp_path):
    def all_but_the_last(ids):
        if ids[0] == "128":
            raise KeyboardInterrupt
        return map(record, ids)

    store = open_store(tmp_path)
    with pytest.raises(KeyboardInterrupt):
        run(store, compute=all_but_the_last)
    (partial,) = (store.root / "partial").iterdir()
    first = min(partial.glob("segment-*"))
    first.chmod(0o644)
    content = bytearray(first.read_bytes())
    content[-10] ^= 1
    first.write_bytes(content)
    computed = []
    artifact = run(store, computed=computed)
    assert computed == [*IDS[:64], *IDS[128:]]
    assert artifact.id == run(open_store(tmp_path / "other")).id


def test_what_is_done_is_found(tmp_path):
    store, heard = open_store(tmp_path), Heard()
    first = run(store)
    assert run(store, reporter=heard, compute=lambda ids: pytest.fail("computed again")).path == first.path
    assert not heard.started
