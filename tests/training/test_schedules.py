import pytest
from hypothesis import given
from hypothesis import strategies as st

from mcis_cli.training.schedules import milestones, poly


def test_milestones_multiply_from_their_step_on():
    schedule = milestones([6, 12], gamma=0.1)
    factors = [schedule(step) for step in (0, 5, 6, 11, 12, 100)]
    assert factors == pytest.approx([1, 1, 0.1, 0.1, 0.01, 0.01])


def test_milestones_may_be_none_or_unordered():
    assert milestones([], gamma=0.1)(1000) == 1
    assert milestones([12, 6], gamma=0.5)(7) == 0.5


def test_poly_is_one_at_first_and_nothing_at_the_end():
    schedule = poly(4, power=2)
    assert [schedule(step) for step in range(6)] == [1, 0.5625, 0.25, 0.0625, 0, 0]


def test_poly_with_power_zero_is_constant():
    assert [poly(3, power=0)(step) for step in range(3)] == [1, 1, 1]


@given(num_steps=st.integers(1, 1000), power=st.floats(0.1, 3), gamma=st.floats(0.01, 1))
def test_schedules_never_rise_and_stay_in_zero_to_one(num_steps, power, gamma):
    for schedule in (poly(num_steps, power=power), milestones([3, num_steps], gamma=gamma)):
        factors = [schedule(step) for step in range(num_steps)]
        assert factors == sorted(factors, reverse=True)
        assert all(0 < factor <= 1 for factor in factors)
