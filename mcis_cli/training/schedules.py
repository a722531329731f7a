"""Factors on the learning rate, as functions of the number of finished steps: no state, so nothing to resume."""

from collections.abc import Callable, Sequence

Schedule = Callable[[int], float]


def milestones(steps: Sequence[int], *, gamma: float) -> Schedule:
    """Multiply by `gamma` at every milestone (paper §3.3: ×0.1 after every 6 epochs).

    Args:
        steps: milestones in steps (epochs times steps an epoch); a step counts from its milestone on.
        gamma: factor, in (0, 1].

    Returns:
        The factor after a number of finished steps: 1 before the first milestone.
    """
    ordered = tuple(sorted(steps))
    return lambda step: gamma ** sum(step >= milestone for milestone in ordered)


def poly(num_steps: int, *, power: float) -> Schedule:
    """Polynomial decay (1 − step / num_steps)^power, as DeepLab trains.

    Args:
        num_steps: length of the training; the factor is 0 from there on, which no step sees.
        power: 0.9 in the released code; 0 is a constant rate.

    Returns:
        The factor after a number of finished steps: 1 at step 0.
    """
    return lambda step: max(0.0, 1.0 - step / num_steps) ** power
