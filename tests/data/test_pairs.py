"""Training pairs: every image once, with a partner that shares a class."""

from collections import Counter
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mcis_cli.data.pairs import carriers_by_class, sample_pairs, sample_rings

LABELS = [(0,), (0, 1), (1,), (2,), (0, 1), (), (1, 1)]
IDS = [f"image-{position}" for position in range(len(LABELS))]

Sampler = Callable[..., list[tuple[int, int]]]
label_lists = st.lists(st.lists(st.integers(0, 4), max_size=3).map(tuple), min_size=1, max_size=12)


@pytest.mark.parametrize("sample", [sample_pairs, sample_rings])
@given(labels=label_lists, seed=st.integers(0, 5), epoch=st.integers(0, 3))
def test_every_image_leads_once_and_partners_share_a_class(
    sample: Sampler, labels: list[tuple[int, ...]], seed: int, epoch: int
) -> None:
    pairs = sample(labels, [str(position) for position in range(len(labels))], seed=seed, epoch=epoch)
    assert sorted(m for m, _ in pairs) == list(range(len(labels)))
    for m, n in pairs:
        related = [other for other in range(len(labels)) if other != m and set(labels[other]) & set(labels[m])]
        assert n in related if related else n == m


def test_image_that_shares_nothing_is_its_own_partner() -> None:
    pairs = dict(sample_pairs(LABELS, IDS, seed=0, epoch=0))
    assert pairs[3] == 3
    assert pairs[5] == 5


def test_order_and_partners_change_with_epoch_and_seed_only() -> None:
    labels, ids = [(0,)] * 30, [str(position) for position in range(30)]
    first = sample_pairs(labels, ids, seed=0, epoch=0)
    assert first == sample_pairs(labels, ids, seed=0, epoch=0)
    assert dict(first) != dict(sample_pairs(labels, ids, seed=0, epoch=1))
    assert dict(first) != dict(sample_pairs(labels, ids, seed=1, epoch=0))
    assert [m for m, _ in first] != [m for m, _ in sample_pairs(labels, ids, seed=0, epoch=1)]


def test_rare_and_frequent_classes_lead_to_partners_equally_often() -> None:
    # Image 0 has both classes; class 0 has 8 other carriers, class 1 has one. Uniform over images would give 1 in 9.
    labels = [(0, 1)] + [(0,)] * 8 + [(1,)]
    ids = [str(position) for position in range(10)]
    partners = Counter(dict(sample_pairs(labels, ids, seed=0, epoch=epoch))[0] for epoch in range(400))
    assert 160 < partners[9] < 240  # binomial(400, 1/2): four standard deviations are 40
    assert set(partners) == set(range(1, 10))


def test_carriers_are_counted_once_and_ascend() -> None:
    carriers = {k: positions.tolist() for k, positions in carriers_by_class(LABELS).items()}
    assert carriers == {0: [0, 1, 4], 1: [1, 2, 4, 6], 2: [3]}


def test_in_rings_all_pairs_differ_and_an_image_follows_where_it_was_led_to() -> None:
    labels = [(k,) for k in range(3) for _ in range(7)]  # of each class a ring of 3 and one of 4
    ids = [str(position) for position in range(len(labels))]
    pairs = sample_rings(labels, ids, seed=0, epoch=0)
    assert len({frozenset(pair) for pair in pairs}) == len(pairs) == 21
    assert sorted(n for _, n in pairs) == list(range(21))
    places = {m: place for place, (m, _) in enumerate(pairs)}
    lengths = Counter(abs(places[n] - places[m]) + 1 for m, n in pairs if places[n] < places[m])
    assert lengths == {3: 3, 4: 3}


def test_rings_change_with_epoch_and_seed_only() -> None:
    labels, ids = [(0,)] * 30, [str(position) for position in range(30)]
    first = sample_rings(labels, ids, seed=0, epoch=0)
    assert first == sample_rings(labels, ids, seed=0, epoch=0)
    assert dict(first) != dict(sample_rings(labels, ids, seed=0, epoch=1))
    assert dict(first) != dict(sample_rings(labels, ids, seed=1, epoch=0))
