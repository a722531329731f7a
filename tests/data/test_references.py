"""References: distinct other images of the class, fixed by seed, image and class."""

from collections import Counter

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from mcis_cli.data.references import draw_references, nearest_references
from mcis_cli.data.seeds import generator

CARRIERS = [f"image-{position}" for position in range(9)]


@given(
    carriers=st.lists(st.text("abx", min_size=1, max_size=2), max_size=8, unique=True).map(sorted),
    num_references=st.integers(0, 6),
    seed=st.integers(0, 9),
)
def test_references_are_distinct_others_as_many_as_there_are(
    carriers: list[str], num_references: int, seed: int
) -> None:
    references = draw_references(carriers, "x", "cat", num_references, seed)
    others = set(carriers) - {"x"}
    assert len(set(references)) == len(references) == min(num_references, len(others))
    assert set(references) <= others


@given(num_references=st.integers(0, 9), more=st.integers(0, 4), seed=st.integers(0, 9), replacement=st.booleans())
def test_longer_draw_begins_with_the_shorter(num_references: int, more: int, seed: int, replacement: bool) -> None:
    short = draw_references(CARRIERS, "image-3", "cat", num_references, seed, replacement=replacement)
    long = draw_references(CARRIERS, "image-3", "cat", num_references + more, seed, replacement=replacement)
    assert long[: len(short)] == short


def test_presence_of_the_image_itself_does_not_matter() -> None:
    expected = draw_references(CARRIERS, "image-3", "cat", 4, seed=5)
    assert draw_references([c for c in CARRIERS if c != "image-3"], "image-3", "cat", 4, seed=5) == expected


def test_the_draw_is_that_of_a_whole_shuffle() -> None:
    for seed in range(20):
        pool = [c for c in CARRIERS if c != "image-3"]
        random = generator(seed, "references", "image-3", "cat")
        for position in range(5):
            swap = random.integers(position, len(pool))
            pool[position], pool[swap] = pool[swap], pool[position]
        assert draw_references(CARRIERS, "image-3", "cat", 5, seed) == tuple(pool[:5])


def test_seed_image_and_class_each_change_the_draw() -> None:
    draws = {
        draw_references(CARRIERS, image, name, 5, seed)
        for image, name, seed in [("a", "cat", 0), ("b", "cat", 0), ("a", "dog", 0), ("a", "cat", 1)]
    }
    assert len(draws) == 4


def test_every_carrier_is_drawn_equally_often() -> None:
    counts = Counter(r for seed in range(400) for r in draw_references(CARRIERS, "other", "cat", 3, seed))
    # 1200 draws over 9 carriers: 133 each, standard deviation about 9.
    assert set(counts) == set(CARRIERS)
    assert all(95 < count < 172 for count in counts.values())


def test_released_rules_repeat_and_allow_the_image_itself() -> None:
    assert draw_references(["a"], "a", "cat", 3, 0, replacement=True, allow_self=True) == ("a", "a", "a")
    assert draw_references(["a"], "a", "cat", 3, 0, allow_self=True) == ("a",)
    assert draw_references(["a", "b"], "a", "cat", 2, 0, replacement=True) == ("b", "b")
    assert draw_references(["a"], "a", "cat", 3, 0, replacement=True) == ()


@given(
    carriers=st.lists(st.text("abx", min_size=1, max_size=2), max_size=8, unique=True).map(sorted),
    num_references=st.integers(0, 6),
    more=st.integers(0, 3),
    data=st.data(),
)
def test_the_nearest_are_the_first_of_all_others_by_likeness_then_id(
    carriers: list[str], num_references: int, more: int, data: st.DataObject
) -> None:
    """With few values, so that many are equal."""
    likeness = data.draw(
        st.lists(st.sampled_from([-1.0, 0.25, 0.5, 1.0]), min_size=len(carriers), max_size=len(carriers))
    )
    others = [(-alike, one) for alike, one in zip(likeness, carriers, strict=True) if one != "x"]
    expected = tuple(one for _, one in sorted(others))
    assert nearest_references(carriers, "x", np.array(likeness), num_references) == expected[:num_references]
    longer = nearest_references(carriers, "x", np.array(likeness), num_references + more)
    assert longer[:num_references] == expected[:num_references]
