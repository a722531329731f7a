"""What shards tell each other of their scratch files, where it goes wrong; that they share is in `test_features`."""

import resource
import tempfile
from contextlib import closing
from pathlib import Path

import pytest
import torch

from mcis_cli.stages.cams.exchange import Exchange, Place, topic_of
from mcis_cli.training.precision import describe_machine

PLACES = [Place(0, (2, 3), (1, 2), torch.bfloat16)]

pytestmark = pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="no /proc to find files through")

VIEWS, INPUTS = {"image_size": 64, "embeds": False}, {"classifier": "1a", "images": "2b"}


def test_cards_of_one_machine_share_and_whatever_else_differs_does_not():
    machine = describe_machine(torch.device("cpu"), "fp32")
    card = {**machine, "device": "cuda:0", "device_name": "a card", "cuda": "12.8"}
    topic = topic_of(VIEWS, INPUTS, card)
    assert topic_of(VIEWS, INPUTS, {**card, "device": "cuda:1"}) == topic
    assert topic_of(VIEWS, INPUTS, {**card, "device": "cuda"}) == topic
    others = [
        topic_of(VIEWS, INPUTS, machine),
        topic_of(VIEWS, INPUTS, {**card, "device": "cpu"}),
        topic_of(VIEWS, INPUTS, {**card, "device_name": "another"}),
        topic_of(VIEWS, INPUTS, {**card, "precision": "bf16"}),
        topic_of({**VIEWS, "embeds": True}, INPUTS, card),
        topic_of(VIEWS, {**INPUTS, "classifier": "1b"}, card),
    ]
    assert topic not in others
    assert len(set(others)) == len(others)


def test_what_is_told_is_found_by_others_and_not_by_oneself(tmp_path):
    with (
        tempfile.TemporaryFile(dir=tmp_path) as file,
        closing(Exchange(tmp_path, "1f")) as mine,
        closing(Exchange(tmp_path, "1f")) as other,
    ):
        assert other.find("a") is None
        mine.tell("a", PLACES, file.fileno())
        descriptor, places = other.find("a")
        assert places == PLACES
        assert descriptor != file.fileno()
        assert mine.find("a") is None
        mine.close()
        assert other.find("a") == (descriptor, PLACES)  # whoever has met it keeps it
    assert list(tmp_path.iterdir()) == []


def test_after_a_line_that_the_disk_refuses_nothing_more_is_told(tmp_path):
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    with (
        tempfile.TemporaryFile(dir=tmp_path) as file,
        closing(Exchange(tmp_path, "1f")) as mine,
        closing(Exchange(tmp_path, "1f")) as other,
    ):
        mine.tell("a", PLACES, file.fileno())
        (told,) = tmp_path.iterdir()
        resource.setrlimit(resource.RLIMIT_FSIZE, (told.stat().st_size + 5, before[1]))
        try:
            mine.tell("b", PLACES, file.fileno())
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)
        assert other.find("a") is not None  # and has read half a line more
        mine.tell("c", PLACES, file.fileno())
        assert other.find("b") is None
        assert other.find("c") is None
