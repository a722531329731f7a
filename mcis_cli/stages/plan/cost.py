"""The cost of work, estimated from artifacts of earlier runs.

Time and disk are estimated only from something comparable in this store: the same stage on images of the same classes,
with settings and a network that cost as much.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from mcis_cli.stages.stage import Expected, Request, Wanted
from mcis_cli.store import Artifact, Begun


@dataclass(frozen=True)
class Cost:
    """The estimated cost of a stage: seconds of work and bytes of the artifact, each None without a comparable record,
    and the artifact that they are estimated from."""

    seconds: float | None = None
    num_bytes: int | None = None
    like: str | None = None


@dataclass(frozen=True)
class Records:
    """The artifacts that costs are estimated from.

    Attributes:
        artifacts: by content id, the newest last.
        class_names: of the image set.
        device: that the work would run on; "auto" accepts records of any.
    """

    artifacts: Mapping[str, Artifact]
    class_names: Sequence[str]
    device: str

    def cost(self, asked: Request, wanted: Wanted, begun: Begun | None) -> Cost:
        """The cost of the work that remains."""
        like = [one for one in reversed([*self.artifacts.values()]) if self._costs_the_same(one, asked, wanted)]
        timed = next((one for one in like if _seconds_each(one) is not None), None)
        if (sized := timed or next(iter(like), None)) is None:
            return Cost()
        each = None if timed is None else _seconds_each(timed)
        size = sized.path.stat().st_size
        num_bytes = round(size / len(sized) * len(wanted.images)) if len(sized) else size
        device = sized.provenance.get("machine", {}).get("device")
        name = sized.path.stem if device is None else f"{sized.path.stem} on {device}"
        return Cost(None if each is None else each * wanted.num_left(begun), num_bytes, name)

    def _costs_the_same(self, one: Artifact, asked: Request, wanted: Wanted) -> bool:
        """Whether an artifact has the same cost for each image or step as the wanted one."""
        if one.stage != wanted.stage or one.meta.get("class_names") != list(self.class_names):
            return False
        made_on = str(one.provenance.get("machine", {}).get("device", ""))
        if self.device != "auto" and made_on and made_on.partition(":")[0] != self.device.partition(":")[0]:
            return False
        assert wanted.of.work is not None
        assert wanted.of.section is not None
        free = wanted.of.section.cost_free() | {"seed", "split"}
        priced = [{k: v for k, v in recipe.config.items() if k not in free} for recipe in wanted.recipes]
        if {k: v for k, v in one.manifest["recipe"]["config"].items() if k not in free} not in priced:
            return False
        # The cost of pixel labels does not depend on how they were made.
        if asked.upstream is None or (asked.kind == "pseudo masks" and wanted.of.content.kind != "scores"):
            return True
        inputs = [one.inputs.get(role, "") for role in ("network", *wanted.of.work.roles)]
        before = next((self.artifacts[digest] for digest in inputs if digest in self.artifacts), None)
        return before is not None and _network(before) == _network(asked.network or asked.upstream)


def _network(of: Artifact | Expected) -> tuple[object, ...]:
    """The stage of the input, and its network, if it is one."""
    model = of.meta.get("model", {})
    return of.stage, *(model.get(name) for name in ("network", "backbone", "output_stride"))


def _seconds_each(one: Artifact) -> float | None:
    """Seconds of an image, or of a step of a training, as an artifact recorded them."""
    seconds, computed = one.provenance.get("seconds"), one.provenance.get("computed")
    counts = [count for count in computed.values() if type(count) is int] if isinstance(computed, Mapping) else []
    if not isinstance(seconds, int | float) or not counts or counts[0] <= 0 or not 0 <= seconds < math.inf:
        return None
    return float(seconds) / counts[0]
