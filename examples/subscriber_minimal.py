"""Read a running stream with nothing but zmq, msgpack and numpy: subscriber_minimal.py [ADDRESS [TOPIC [COUNT]]]."""

import struct
import sys

import msgpack
import numpy as np
import zmq

address, topic, count = (*sys.argv[1:], *("tcp://127.0.0.1:5556", "frame/", "-1")[len(sys.argv) - 1 :])
socket = zmq.Context.instance().socket(zmq.SUB)
socket.setsockopt(zmq.CONFLATE, 1)  # newest only: set before connect, one socket per topic; leave out for every frame
socket.setsockopt(zmq.SUBSCRIBE, topic.encode())
socket.connect(address)
left = int(count)
while left != 0:
    while not socket.poll(2000):
        print(f"waiting for {topic} from {address}: does a stream run there?", file=sys.stderr, flush=True)
    message, left = socket.recv(), left - 1
    start = message.index(b"\0") + 5
    (length,) = struct.unpack_from("<I", message, start - 4)
    header = msgpack.unpackb(message[start : start + length])
    pixels = np.frombuffer(message, header["dtype"], offset=start + length).reshape(header["shape"])
    span = f"[{header['t_a_us']:.0f}, {header['t_b_us']:.0f}] us"
    print(f"{header['tag']} {header['index']}: {pixels.shape} over {span}, mean {pixels.mean():.2f}", flush=True)
