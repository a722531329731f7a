"""The work on a prediction after the network, in worker processes: a CRF, and a function of the caller.

Without torch, because a process that imports it takes seconds to start.
"""

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from mcis_cli.maps.crf import Candidates, winners

Result = TypeVar("Result")


def finish(
    terms: Mapping[str, Any] | None, then: Callable[..., Result], item: tuple[str, Candidates, list[Any]]
) -> Result:
    """Give `then` the id of an image, its mask after a CRF of these terms or none, that before it, and the rest."""
    image_id, chosen, rest = item
    before = winners(chosen, None)
    return then(image_id, before if terms is None else winners(chosen, terms), before, *rest)
