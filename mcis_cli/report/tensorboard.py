"""The metrics log of a training as a file of events, which TensorBoard draws. Needs the extra `tensorboard`.

The log in the store is the source: the file can be deleted and written again at any time.
"""

import io
import math

from tensorboard.compat.proto.event_pb2 import Event
from tensorboard.compat.proto.summary_pb2 import Summary
from tensorboard.summary.writer.record_writer import RecordWriter

from mcis_cli.report.metrics_log import MetricsLog

EVENTS = "events.out.tfevents.mcis"  # TensorBoard searches for names that contain "tfevents"


def events(log: MetricsLog, written: float) -> bytes:
    """The content of a file of events: each loss as `loss/NAME`, and epoch, learning rate and gradient norm.

    Args:
        log: the reports of a training.
        written: time in seconds since 1970 for all reports, which have no times of their own.
    """
    curves = {f"loss/{name}" if name in log.losses else name: values for name, values in log.values.items()}
    curves["epoch"] = tuple(map(float, log.epochs))
    stream = io.BytesIO()
    records = RecordWriter(stream)
    records.write(Event(wall_time=written, file_version="brain.Event:2").SerializeToString())
    for place, step in enumerate(log.steps):
        scalars = [
            Summary.Value(tag=name, simple_value=values[place])
            for name, values in curves.items()
            if math.isfinite(values[place])
        ]
        event = Event(wall_time=written, step=step, summary=Summary(value=scalars))
        records.write(event.SerializeToString())
    return stream.getvalue()
