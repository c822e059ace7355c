"""What building once buys: the streaming form of the network beside the published way of working, in one run.

The published design redoes everything after the encoders for each image that is asked for, and lets all maps attend
to the film (`attention = "joint"`). Here the content is built once and films read it (`attention = "cached"`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Literal

import torch

from nire.engines import DTYPES, Job
from nire.engines.eager import EagerEngine
from nire.network.config import NetworkConfig
from nire.network.reexposure import ReExposureNetwork

from .inputs import Asked, BuildInputs
from .report import Result

BATCH, MANY = 8, 64
Times = Callable[[list[Callable[[], object]]], list[float]]


def compare(config: NetworkConfig, job: Job, build: BuildInputs, asked: Asked, times: Times) -> list[Result]:
    """Time the two ways by plain torch, untrained.

    Args:
        config: of the network; its `attention` does not matter.
        job: shape, device and precision.
        build: what `ReExposureNetwork.build` takes.
        asked: what `ReExposureNetwork.expose` takes besides, for `MANY` queries.
        times: takes the durations of works that take turns, seconds.
    """
    network = _network(config, "cached")
    cached, joint = EagerEngine(network, job), EagerEngine(_network(config, "joint"), job)
    contents = cached.build(*build), joint.build(*build)
    dtype = DTYPES[job.precision_of("eager", tuple(DTYPES))]

    def encoders() -> object:
        images, voxels, _, _, observed = build
        events = network.event_encoder(voxels.to(dtype), observed.to(dtype)) if network.event_encoder else None
        return events, network.image_encoder(images.to(dtype))

    def exposing(index: int, count: int) -> Callable[[], object]:
        few = tuple(tensor[:, :count] for tensor in asked)
        return lambda: (cached, joint)[index].expose(contents[index], *few)

    works = [encoders, lambda: cached.build(*build), lambda: joint.build(*build)]
    works += [exposing(0, 1), exposing(0, BATCH), exposing(0, MANY), exposing(1, 1)]
    with torch.inference_mode():
        encode_s, build_s, joint_build_s, first_s, batch_s, many_s, joint_s = times(works)
    next_s = (batch_s - first_s) / (BATCH - 1)
    redone_s = joint_build_s - encode_s + joint_s
    size = config.size
    return [
        Result(f"{size}_encoders_ms", 1e3 * encode_s, "ms", "of images and events, part of a build"),
        Result(f"{size}_redone_ms", 1e3 * redone_s, "ms", "an image, redone after the encoders, attention joint"),
        Result(f"{size}_redone_ratio", redone_s / next_s, "", "over one more query, content built once"),
        Result(f"{size}_joint_ratio", joint_s / next_s, "", "of attention alone: joint over cached"),
        Result(
            f"{size}_many_ratio", many_s / MANY / (build_s + first_s), "", f"a query of {MANY} over build and first one"
        ),
    ]


def _network(config: NetworkConfig, attention: Literal["cached", "joint"]) -> ReExposureNetwork:
    torch.manual_seed(0)
    return ReExposureNetwork(replace(config, attention=attention))
