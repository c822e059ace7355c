"""The whole network: shapes, independence of queries, switches, what the untrained one gives, sizes."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from nire.errors import ConfigError
from nire.network.config import BASE, NANO, SMALL, NetworkConfig, named
from nire.network.reexposure import ReExposureNetwork
from tests.nire.network.tiny import HEIGHT, TINY, WIDTH, build_inputs, expose_inputs, network
from tests.nire.precision import in_bf16


def parameters(config: NetworkConfig) -> int:
    """Count them without allocating any."""
    with torch.device("meta"):
        return sum(weight.numel() for weight in ReExposureNetwork(config).parameters())


@pytest.mark.parametrize("attention", ["cached", "joint"])
@pytest.mark.parametrize("film", ["pre_exposed", "learned"])
@pytest.mark.parametrize("queries", [1, 3])
@pytest.mark.parametrize("frames", [0, 1, 2])
def test_one_network_serves_any_number_of_frames_and_queries(
    frames: int, queries: int, film: str, attention: str
) -> None:
    made = network(film=film, attention=attention)
    with torch.no_grad():
        content = made.build(*build_inputs(frames, b=2))
        image = made.expose(content, *expose_inputs(frames, queries, b=2))
    assert image.shape == (2, queries, 1, HEIGHT, WIDTH)
    assert image.isfinite().all()


@pytest.mark.parametrize("attention", ["cached", "joint"])
def test_image_does_not_depend_on_the_other_queries(attention: str) -> None:
    made = network(attention=attention)
    shutters, re_exposed = expose_inputs(2, 16)
    with torch.no_grad():
        content = made.build(*build_inputs(2))
        together = made.expose(content, shutters, re_exposed)
        for q in (0, 7, 15):
            alone = made.expose(content, shutters[:, q : q + 1], re_exposed[:, q : q + 1])
            torch.testing.assert_close(together[:, q : q + 1], alone, atol=1e-4, rtol=0)


def test_window_does_not_depend_on_the_other_windows_of_a_batch() -> None:
    made = network()
    inputs, asked = build_inputs(2, b=2), expose_inputs(2, 2, b=2)
    with torch.no_grad():
        together = made(*inputs, *asked)
        alone = made(*(tensor[1:] for tensor in (*inputs, *asked)))
    torch.testing.assert_close(together[1:], alone, atol=1e-4, rtol=0)


@pytest.mark.parametrize("attention", ["cached", "joint"])
def test_shutter_per_pixel_that_is_the_same_along_rows_is_a_rolling_one(attention: str) -> None:
    made = network(attention=attention)
    shutters, re_exposed = expose_inputs(2, 2)
    with torch.no_grad():
        content = made.build(*build_inputs(2))
        rows = made.expose(content, shutters, re_exposed)
        pixels = made.expose(content, shutters.unsqueeze(3).expand(-1, -1, -1, WIDTH, -1), re_exposed)
    torch.testing.assert_close(rows, pixels, atol=1e-5, rtol=1e-5)


def test_shutter_moves_the_image_even_of_a_blank_film() -> None:
    made = network(film="learned")
    shutters, re_exposed = expose_inputs(2, 1)
    with torch.no_grad():
        content = made.build(*build_inputs(2))
        difference = made.expose(content, shutters, re_exposed) - made.expose(content, shutters + 0.2, re_exposed)
    assert difference.abs().max() > 1e-6


@pytest.mark.parametrize("frames", [0, 1, 2])
def test_untrained_pre_exposed_network_blends_by_trust(frames: int) -> None:
    made = network(stirred=False)
    shutters, re_exposed = expose_inputs(frames, 2)
    light, trust = re_exposed.split(1, dim=3)
    with torch.no_grad():
        image = made.expose(made.build(*build_inputs(frames)), shutters, re_exposed)
    weights = trust.exp() / trust.exp().sum(2, keepdim=True)
    torch.testing.assert_close(image, (light * weights).sum(2), atol=1e-5, rtol=0)


@pytest.mark.parametrize("film", ["pre_exposed", "learned"])
@pytest.mark.parametrize("attention", ["cached", "joint"])
def test_gradients_reach_every_parameter(attention: str, film: str) -> None:
    made = network(attention=attention, film=film)
    inputs = build_inputs(2)
    inputs[-1][:, 0, 0] = 0  # one bin unobserved
    made(*inputs, *expose_inputs(2, 2)).square().mean().backward()
    still = [name for name, weight in made.named_parameters() if weight.grad is None or not weight.grad.abs().sum()]
    assert not still


def test_ablations_change_parameters_as_table_5_says() -> None:
    whole = parameters(BASE)
    without_events = parameters(replace(BASE, use_events=False))
    without_time = parameters(replace(BASE, use_time_encoding=False))
    without_enhancement = parameters(replace(BASE, use_enhancement=False))
    assert 6e6 < whole - without_events < 9e6  # 33.2 M to 25.6 M
    assert 0 < whole - without_time < 0.1e6  # 33.2 M to 33.2 M
    assert 0 < whole - without_enhancement < 1.5e6  # 33.2 M to 33.0 M; ours enhances the film too, in two blocks


@pytest.mark.parametrize("switch", ["use_events", "use_time_encoding", "use_enhancement"])
def test_network_runs_without_each_of_its_parts(switch: str) -> None:
    made = network(**{switch: False})
    with torch.no_grad():
        assert made(*build_inputs(1), *expose_inputs(1, 2)).isfinite().all()


def test_levels_left_out_of_the_content_attention_learn_by_enhancement_only() -> None:
    paper, fewer = network(), network(content_levels=(1,))
    gone = paper.state_dict().keys() - fewer.state_dict().keys()
    assert fewer.state_dict().keys() < paper.state_dict().keys()
    assert all(name.startswith("content.attention.0.levels.0.") for name in gone)
    levels = [torch.randn(1, 3, HEIGHT // s, WIDTH // s, c) for s, c in zip(TINY.strides, TINY.channels, strict=True)]
    times = [torch.randn(1, 3, HEIGHT // s, 1, 4 * TINY.bands) for s in TINY.strides]
    with torch.no_grad():
        attended = fewer.content.attention[0](levels, times)
        assert attended[0] is levels[0]
        torch.testing.assert_close(attended[1], fewer.content.attention[0].levels["1"](levels[1], times[1]))
        assert not torch.equal(fewer.content(levels, times)[0], levels[0])


def test_without_events_the_voxels_do_not_matter() -> None:
    made = network(use_events=False)
    inputs, asked = list(build_inputs(1)), expose_inputs(1, 1)
    with torch.no_grad():
        before = made(*inputs, *asked)
        inputs[1] = inputs[1] + 1
        torch.testing.assert_close(made(*inputs, *asked), before, atol=0, rtol=0)


def test_sizes_are_what_they_promise() -> None:
    assert 0.5e6 <= parameters(NANO) <= 1.2e6
    assert 2e6 <= parameters(SMALL) <= 6e6
    assert abs(parameters(BASE) / 33.2e6 - 1) <= 0.05


def test_cached_and_joint_share_their_weights() -> None:
    cached, joint = network(), network(attention="joint")
    assert cached.state_dict().keys() == joint.state_dict().keys()


@in_bf16
def test_bfloat16_in_channels_last_stays_near_float32() -> None:
    made = network()
    inputs, asked = build_inputs(2), expose_inputs(2, 2)
    with torch.no_grad():
        exact = made(*inputs, *asked)
        made.to(torch.bfloat16).to(memory_format=torch.channels_last)
        rough = made(*inputs, *asked)
    assert rough.dtype == torch.float32
    assert (exact - rough).abs().max() < 0.05


def test_build_and_expose_are_fixed_graphs() -> None:
    made = network()
    inputs, asked = build_inputs(2), expose_inputs(2, 2)

    class Build(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.network = made

        def forward(self, *tensors: torch.Tensor) -> object:
            return made.build(*tensors)

    class Expose(Build):
        def forward(self, content: object, shutters: torch.Tensor, re_exposed: torch.Tensor) -> object:
            return made.expose(content, shutters, re_exposed)  # type: ignore[arg-type]

    with torch.no_grad():
        content = made.build(*inputs)
        exported = torch.export.export(Build(), inputs).module()(*inputs)
        torch.testing.assert_close(exported.memory, content.memory)
        exposed = torch.export.export(Expose(), (content, *asked)).module()(content, *asked)
        torch.testing.assert_close(exposed, made.expose(content, *asked))


@pytest.mark.parametrize(
    ("place", "shape", "says"),
    [
        (0, (1, 3, 1, HEIGHT, WIDTH), "N 0 to 2"),
        (0, (1, 1, 1, HEIGHT + 1, WIDTH), "multiples of 8"),
        (1, (1, 4, 2, HEIGHT, WIDTH), "voxels"),
        (2, (1, 1, HEIGHT), "image_ranges"),
        (3, (1, 2, 2), "segment_ranges"),
        (4, (1, 3, 3), "observed"),
    ],
)
def test_shape_that_does_not_fit_is_named(place: int, shape: tuple[int, ...], says: str) -> None:
    inputs = list(build_inputs(1))
    inputs[place] = torch.zeros(shape)
    with pytest.raises(ValueError, match=says):
        network().build(*inputs)


def test_asking_with_other_shapes_than_the_content_is_refused() -> None:
    made = network()
    with torch.no_grad():
        content = made.build(*build_inputs(1))
        with pytest.raises(ValueError, match="re_exposed"):
            made.expose(content, *expose_inputs(2, 1))


def test_config_that_cannot_be_built_names_its_field() -> None:
    with pytest.raises(ConfigError, match="channels"):
        replace(TINY, channels=(8,))
    with pytest.raises(ConfigError, match="strides"):
        replace(TINY, strides=(2, 8))
    with pytest.raises(ConfigError, match="content_levels"):
        replace(TINY, content_levels=(2,))
    with pytest.raises(ConfigError, match="head_unshuffle"):
        replace(TINY, head_unshuffle=4)
    with pytest.raises(ConfigError, match="nano, small, base"):
        named("huge")


def test_padding_fits_the_windows_of_the_coarsest_level() -> None:
    assert NANO.padded(260, 346) == (288, 352)
    assert TINY.padded(HEIGHT, WIDTH) == (HEIGHT, WIDTH)


@in_bf16
@pytest.mark.parametrize("attention", ["cached", "joint"])
def test_training_step_under_autocast_is_near_the_exact_one(attention: str) -> None:
    made = network(attention=attention)
    inputs, asked = build_inputs(2), expose_inputs(2, 2)
    exact = made(*inputs, *asked)
    with torch.autocast("cpu", torch.bfloat16):
        rough = made(*inputs, *asked)
    rough.square().mean().backward()
    assert rough.dtype == torch.float32
    assert (exact - rough).abs().max() < 0.05
    assert all(weight.grad is not None and weight.grad.isfinite().all() for weight in made.parameters())


def test_a_few_steps_of_training_beat_the_blend() -> None:
    made = network(stirred=False).train()
    inputs, asked = build_inputs(2), expose_inputs(2, 2)
    target = asked[1][:, :, 0, :1] * 0.7 + 0.1
    optimiser = torch.optim.Adam(made.parameters(), lr=3e-3)
    losses = []
    for _ in range(30):
        loss = (made(*inputs, *asked) - target).square().mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < losses[0] / 2
