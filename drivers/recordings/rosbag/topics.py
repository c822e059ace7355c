"""Which topics of a recording belong to one camera: by their namespace, their size, or as they are set."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import dataclass

from drivers.source import Stream
from nire.errors import SourceError

ARRAYS = ("dvs_msgs/EventArray", "prophesee_event_msgs/EventArray")
PACKETS = ("event_camera_msgs/EventPacket", "event_array_msgs/EventArray")
IMAGES = ("sensor_msgs/Image", "sensor_msgs/CompressedImage")
LENGTHS = ("std_msgs/Int32", "std_msgs/UInt32")
"""On `.../exposure`, after an image: the length of its exposure in us, as the DAVIS driver of ROS 1 sends it."""
EXPOSURE = "sensor_msgs/TimeReference"
"""Where a topic of this type has the source "exposure", it says the end of the exposure of the image of that stamp."""
DEVICE_CLOCK = "device +-us "
"""Where its source begins so, it says how far its stamp, the wall time of the reference, may be off: our own writer."""
NONE = "none"
"""What `events_topic` or `frames_topic` is set to where none shall be read."""

_ROLES = {
    **dict.fromkeys((*ARRAYS, *PACKETS), "events"),
    **dict.fromkeys(IMAGES, "frames"),
    **dict.fromkeys(LENGTHS, "length"),
    EXPOSURE: "exposure",
    "sensor_msgs/Imu": "imu",
}
_Size = tuple[int, int]


def role_of(topic: str, kind: str) -> str:
    """Tell what a topic may be for: events, frames, length, exposure, imu; "" for anything else."""
    role = _ROLES.get(kind, "")
    return "" if role == "length" and topic.rpartition("/")[2] != "exposure" else role


def namespace_of(topic: str, kind: str) -> str:
    """Tell the camera's part of a topic: /davis/left of /davis/left/image_raw/compressed."""
    above = topic.rpartition("/")[0]
    return above.rpartition("/")[0] if kind == "sensor_msgs/CompressedImage" and above.count("/") else above


@dataclass(frozen=True, slots=True)
class Choice:
    """What is read.

    Attributes:
        events, frames: topics; "" where there is none.
        lengths: topics of the lengths of exposures that belong to the frames.
        streams: all topics that could be read, for people.
    """

    events: str
    frames: str
    lengths: str
    streams: tuple[Stream, ...]

    def takes(self, role: str, topic: str) -> bool:
        """Tell whether a topic of a role is read."""
        chosen = {"events": self.events, "frames": self.frames, "length": self.lengths}
        return chosen[role] == topic if role in chosen else bool(role)


def candidates(kinds: Mapping[str, str], *, events: str, frames: str, path: object) -> dict[str, list[str]]:
    """Give the topics that may be read for "events" and "frames": those there are, or the one that is set.

    Args:
        kinds: type of each topic.
        events, frames: as set; "" = any, "none" = none.
        path: for messages.

    Raises:
        SourceError: a topic that is set is not there.
    """
    there: dict[str, list[str]] = {}
    for role, wanted in (("events", events), ("frames", frames)):
        there[role] = [topic for topic in kinds if role_of(topic, kinds[topic]) == role]
        if wanted and wanted != NONE and wanted not in there[role]:
            raise SourceError(f"{path} has {_listed(kinds)}; {role}_topic = {wanted!r} is none of {role}")
        if wanted:
            there[role] = [wanted] if wanted != NONE else []
    return there


def choose(
    kinds: Mapping[str, str], sizes: Mapping[str, _Size], there: Mapping[str, list[str]], *, path: object
) -> Choice:
    """Choose topics of one camera.

    Args:
        kinds: type of each topic.
        sizes: width and height of those of events and frames, as far as they are known; (0, 0) = not said.
        there: the `candidates` that can be read.
        path: for messages.

    Raises:
        SourceError: nothing belongs together; or the sizes differ.
    """
    chosen_events, chosen_frames = _pair(there["events"], there["frames"], kinds, sizes, path=path)
    if not chosen_events and not chosen_frames:
        raise SourceError(
            f"{path} has {_listed(kinds)}; expected events ({', '.join(ARRAYS + PACKETS)}) or images "
            f"({', '.join(IMAGES)})"
        )
    near = namespace_of(chosen_frames, kinds[chosen_frames]) if chosen_frames else ""
    lengths = next(
        (t for t in kinds if role_of(t, kinds[t]) == "length" and t.rpartition("/")[0] == near and chosen_frames), ""
    )
    taken = {chosen_events, chosen_frames, lengths}
    streams = tuple(
        Stream(topic, kind, topic in taken or role_of(topic, kind) in ("imu", "exposure"))
        for topic, kind in sorted(kinds.items())
    )
    return Choice(chosen_events, chosen_frames, lengths, streams)


def _pair(
    events: list[str], frames: list[str], kinds: Mapping[str, str], sizes: Mapping[str, _Size], *, path: object
) -> tuple[str, str]:
    """The first two topics of one namespace and size; or of one whose namespace is a part of the other's."""
    if not events or not frames:
        return next(iter(events), ""), next(iter(frames), "")
    fitting = [(e, f) for e, f in itertools.product(events, frames) if _same_size(sizes.get(e), sizes.get(f))]
    near = [(e, f) for e, f in fitting if namespace_of(e, kinds[e]) == namespace_of(f, kinds[f])]
    above = [(e, f) for e, f in fitting if _is_above(namespace_of(e, kinds[e]), namespace_of(f, kinds[f]))]
    if near or above:
        return (near or above)[0]
    if len(events) == len(frames) == 1 and not fitting:
        (width, height), (across, down) = sizes[events[0]], sizes[frames[0]]
        raise SourceError(
            f"{path}: the images of {frames[0]} are {across} x {down} pixels, the sensor of the events of {events[0]} "
            f"{width} x {height}: frames and events must share one pixel grid. Set source.settings.frames_topic to "
            f"{NONE!r} to read the events alone; for two cameras use the driver hybrid"
        )
    raise SourceError(
        f"{path} has events on {_sized(events, sizes)} and images on {_sized(frames, sizes)}: their names and sizes "
        'do not tell which are of one camera. To fix it, set source.settings.events_topic and frames_topic ("none" '
        "leaves one out)"
    )


def _is_above(one: str, other: str) -> bool:
    """Tell whether one namespace is a part of the other."""
    return f"{one}/".startswith(f"{other}/") or f"{other}/".startswith(f"{one}/")


def _same_size(one: _Size | None, other: _Size | None) -> bool:
    return not one or not other or not all(one) or not all(other) or one == other


def _listed(kinds: Mapping[str, str]) -> str:
    return ", ".join(f"{topic} ({kind})" for topic, kind in sorted(kinds.items())) or "no messages"


def _sized(topics: list[str], sizes: Mapping[str, _Size]) -> str:
    return ", ".join(f"{topic} ({' x '.join(map(str, sizes.get(topic, ('?', '?'))))})" for topic in topics)
