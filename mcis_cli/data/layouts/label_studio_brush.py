"""The run lengths of Label Studio's brush: bits, not those of COCO.

32 bits say how many values there are, 5 bits the bits of a value (less one), four times 4 bits the bits of a run's
length (less one). Then runs: a bit whether one value is repeated, 2 bits which length, the length (less one), and the
value, or as many values. The values are the channels of RGBA pixels in turn; the last channel is the brush.
"""

from typing import TYPE_CHECKING, Any

from mcis_cli.errors import DataError

if TYPE_CHECKING:
    from numpy import ndarray

WORD = 8  # bits of a value
LENGTHS = (3, 4, 8, 16)  # bits of the lengths that we write, as Label Studio does


def decode_brush(runs: Any, height: int, width: int, where: str) -> "ndarray":
    """The pixels of a brush, boolean, (height, width).

    Raises:
        DataError: They are not run lengths for this number of pixels.
    """
    import numpy as np

    fault = f"{where} has no run lengths of {width} x {height} pixels at 'rle'; expected those of a brush; export again"
    if not isinstance(runs, list) or not all(type(one) is int and 0 <= one < 256 for one in runs):
        raise DataError(fault)
    bits = _Bits(bytes(runs))
    total, word = bits.read(32), bits.read(5) + 1
    lengths = [bits.read(4) + 1 for _ in range(4)]
    if total != height * width * 4 or word != WORD:
        raise DataError(fault)
    values = np.zeros(total, dtype=np.uint8)
    at = 0
    while at < total:
        is_run = bits.read(1)
        end = at + bits.read(lengths[bits.read(2)]) + 1
        if end > total or bits.is_over():
            raise DataError(fault)
        if is_run:
            values[at:end] = bits.read(word)
        else:
            values[at:end] = [bits.read(word) for _ in range(end - at)]
        at = end
    return values.reshape(height, width, 4)[:, :, 3] > 0


def encode_brush(pixels: "ndarray") -> list[int]:
    """The run lengths of a brush over an image, for `decode_brush`; all four channels have the brush, as in exports.

    Args:
        pixels: boolean, (height, width).
    """
    import numpy as np

    values = pixels.ravel()
    starts = np.flatnonzero(np.diff(values, prepend=~values[:1]))
    bits = [f"{4 * values.size:032b}{WORD - 1:05b}", *(f"{size - 1:04b}" for size in LENGTHS)]
    for start, end in zip(starts.tolist(), [*starts[1:].tolist(), values.size], strict=True):
        word, left = f"{255 * bool(values[start]):0{WORD}b}", 4 * (end - start)
        while left:
            run = min(left, 2 ** LENGTHS[-1])
            which = next(place for place, size in enumerate(LENGTHS) if run <= 2**size)
            bits.append(f"1{which:02b}{run - 1:0{LENGTHS[which]}b}{word}")
            left -= run
    text = "".join(bits)
    padded = text.ljust(-(-len(text) // 8) * 8, "0")
    return list(int(padded, 2).to_bytes(len(padded) // 8, "big"))


class _Bits:
    """Bits of some bytes, the highest first; zeros after the end."""

    def __init__(self, content: bytes) -> None:
        self.content = content
        self.at = 0

    def read(self, count: int) -> int:
        """The next bits as a number."""
        first, last = self.at // 8, (self.at + count + 7) // 8
        part = self.content[first:last].ljust(last - first, b"\0")
        shift = 8 * last - self.at - count
        self.at += count
        return (int.from_bytes(part, "big") >> shift) & ((1 << count) - 1)

    def is_over(self) -> bool:
        """Whether more bits were read than there are."""
        return self.at > 8 * len(self.content)
