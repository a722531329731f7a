"""A line of progress that fits the terminal: speed and losses are dropped before stage, bar, counter and time left."""

from rich.console import Console
from rich.progress import ProgressColumn, Task
from rich.text import Text

MIN_BAR, MAX_BAR = 4, 40  # characters


class ProgressLine(ProgressColumn):
    """All of a line of progress, as wide as the console; the task has fields `left` and `further`."""

    max_refresh = None

    def __init__(self, console: Console) -> None:
        super().__init__()
        self._console = console

    def render(self, task: Task) -> Text:
        """The line as it is now."""
        bar = "━" if self._console.encoding.lower().startswith("utf") else "#"
        line = progress_line(
            task.description,
            int(task.completed),
            int(task.total or 0),
            left=str(task.fields["left"]),
            further=tuple(task.fields["further"]),
            width=self._console.width - 1,
            bar=bar,
        )
        return Text(line, no_wrap=True, overflow="crop")


def progress_line(
    title: str, done: int, total: int, *, left: str, further: tuple[str, ...], width: int, bar: str = "━"
) -> str:
    """A line of progress.

    Args:
        title: name of the work.
        done: units that are done.
        total: all units.
        left: the time left, in words.
        further: other facts, of which the last is dropped first.
        width: available characters.
        bar: the character of the bar.
    """
    counter = f"{done}/{total}"
    fixed = len(f"{title}  {counter} {left}")
    for count in range(len(further), -1, -1):
        rest = "".join(f"  {part}" for part in further[:count])
        room = width - fixed - len(rest)
        if room >= MIN_BAR + 6 * bool(count) or (count == 0 and room >= MIN_BAR):
            length = min(MAX_BAR, room)
            filled = length * done // max(total, 1)
            return f"{title} {bar * filled}{' ' * (length - filled)} {counter} {left}{rest}"
    return f"{title} {counter} {left}"[:width]
