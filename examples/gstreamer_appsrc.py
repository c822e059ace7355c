"""A running stream as a source of GStreamer: gstreamer_appsrc.py [ADDRESS [TOPIC [SINK [COUNT]]]].

SINK is the rest of a pipeline, for example "videoconvert ! autovideosink". Needs zmq, msgpack and GStreamer with its
Python bindings (Debian packages python3-zmq, python3-msgpack, python3-gi, gir1.2-gst-plugins-base-1.0).
"""

import struct
import sys

import gi
import msgpack
import zmq

gi.require_version("Gst", "1.0")
gi.require_version("GstApp", "1.0")
from gi.repository import Gst, GstApp  # noqa: E402, F401 - the versions must be named first; GstApp adds push_buffer

DEFAULTS = ("tcp://127.0.0.1:5556", "frame/upsample", "videoconvert ! autovideosink", "-1")
address, topic, sink, count = (*sys.argv[1:], *DEFAULTS[len(sys.argv) - 1 :])
socket = zmq.Context.instance().socket(zmq.SUB)
socket.setsockopt(zmq.CONFLATE, 1)  # newest only
socket.setsockopt(zmq.SUBSCRIBE, topic.encode() + b"\0")
socket.connect(address)
Gst.init(None)
pipeline = Gst.parse_launch(f"appsrc name=source is-live=true format=time do-timestamp=true ! {sink}")
source, caps, left = pipeline.get_by_name("source"), "", int(count)
pipeline.set_state(Gst.State.PLAYING)
while left != 0:
    message = socket.recv()
    start = message.index(b"\0") + 5
    (length,) = struct.unpack_from("<I", message, start - 4)
    height, width, channels = msgpack.unpackb(message[start : start + length])["shape"]
    kind = "GRAY8" if channels == 1 else "RGB"
    wanted = f"video/x-raw,format={kind},width={width},height={height},framerate=0/1"
    if wanted != caps:
        source.set_property("caps", Gst.Caps.from_string(caps := wanted))
    stride = -(-width * channels // 4) * 4  # rows of GStreamer begin at multiples of 4
    rows = (message[at : at + width * channels] for at in range(start + length, len(message), width * channels))
    source.push_buffer(Gst.Buffer.new_wrapped(b"".join(row.ljust(stride, b"\0") for row in rows)))
    left -= 1
source.end_of_stream()
pipeline.get_bus().timed_pop_filtered(10 * Gst.SECOND, Gst.MessageType.EOS | Gst.MessageType.ERROR)
pipeline.set_state(Gst.State.NULL)
