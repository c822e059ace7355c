"""Rendered scenes and the pictures they are made of."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from nire.errors import ConfigError
from nire.training import scenes
from nire.training.pictures import Bank, find_images, is_held_out, make_bank, read_light
from nire.training.scenes import render
from tests.nire.training.rooms import CROP, small_bank, write_images


def light(bank: Bank, seed: int, **settings: int) -> torch.Tensor:
    asked = {"batch": 3, "crop_px": CROP, "steps": 12, "layers": 2, **settings}
    return render(bank, np.random.default_rng(seed), **asked).light


def test_light_has_a_node_more_than_steps_and_is_never_negative(bank: Bank) -> None:
    rendered = light(bank, 1)
    assert rendered.shape == (3, 13, CROP, CROP)
    assert torch.isfinite(rendered).all()
    assert rendered.min() >= 0
    assert rendered.max() > 0.05


def test_one_seed_gives_one_scene_and_another_seed_another(bank: Bank) -> None:
    assert torch.equal(light(bank, 1), light(bank, 1))
    assert not torch.equal(light(bank, 1), light(bank, 2))


def test_nothing_moves_much_further_than_half_a_pixel_in_a_step() -> None:
    rng = np.random.default_rng(0)
    corners = torch.tensor([[-32.0, -32, 1], [32, -32, 1], [-32, 32, 1], [32, 32, 1], [0, 0, 1]]).T
    corners[:2] += 0.0
    moved = []
    for _ in range(30):
        camera, own = (scenes._Path.draw(rng, 8, 48, crop_px=64, step_px=0.5) for _ in range(2))
        pose = scenes._pose(own, camera, rng, step_px=0.5, place_px=10.0)
        # Tilt counts in crops; what matters here are the pixels of the picture that pass under a place of the screen.
        place = pose @ (corners * torch.tensor([1.0, 1.0, 1.0])[:, None])
        tilt = 1 + (pose[..., 2, :2] / 64) @ corners[:2]
        seen = place[..., :2, :] / tilt[..., None, :]
        moved.append(seen.diff(dim=1).norm(dim=2).flatten())
    steps = torch.cat(moved)
    assert steps.quantile(0.5) < 0.5
    assert steps.quantile(0.99) < 0.9


def test_things_without_layers_do_not_appear(bank: Bank) -> None:
    assert not torch.equal(light(bank, 1, layers=0), light(bank, 1, layers=2))


def test_travel_can_be_limited(bank: Bank) -> None:
    def change(travel_px: float) -> float:
        rng = np.random.default_rng(4)
        rendered = render(bank, rng, batch=8, crop_px=CROP, steps=40, layers=2, travel_px=travel_px).light
        return float((rendered[:, -1] - rendered[:, 0]).abs().mean())

    assert change(3.0) < 0.8 * change(20.0)


def test_bank_is_the_same_for_the_same_seed(tmp_path: Path) -> None:
    first, second = small_bank(tmp_path), small_bank(tmp_path)
    assert torch.equal(first.tiles, second.tiles)
    assert torch.equal(first.sprites, second.sprites)
    other = make_bank(find_images(tmp_path), crop_px=CROP, tiles=8, sprites=8, seed=2)
    assert not torch.equal(first.sprites, other.sprites)


def test_things_end_before_the_border_of_their_tile(bank: Bank) -> None:
    cover = bank.sprites[:, 1]
    for border in (cover[:, 0], cover[:, -1], cover[:, :, 0], cover[:, :, -1]):
        assert border.max() == 0
    assert cover.amax((1, 2)).min() > 100


def test_srgb_images_are_read_as_linear_luma(tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "gray.png"), np.full((20, 30, 3), 188, np.uint8))
    read = read_light(tmp_path / "gray.png")
    assert read.shape == (20, 30)
    np.testing.assert_allclose(read, 0.503, atol=0.002)


def test_split_by_name_is_complete_and_keeps_crops_of_one_photograph_together() -> None:
    names = [Path(f"photo{k}_{crop}.png") for k in range(200) for crop in range(3)]
    held_out = [is_held_out(name) for name in names]
    assert 0.08 < np.mean(held_out) < 0.27
    assert all(held_out[k] == held_out[k + 1] == held_out[k + 2] for k in range(0, 600, 3))


def test_both_parts_are_all_images(tmp_path: Path) -> None:
    write_images(tmp_path, count=20)
    parts = [set(find_images(tmp_path, part)) for part in ("train", "held_out")]
    assert not parts[0] & parts[1]
    assert parts[0] | parts[1] == set(find_images(tmp_path))


def test_folder_that_is_missing_or_empty_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="there is no such folder; name one with images"):
        find_images(tmp_path / "none")
    (tmp_path / "notes.txt").write_text("no image")
    with pytest.raises(ConfigError, match="holds no image; expected files like"):
        find_images(tmp_path)


def test_file_that_is_no_image_is_named(tmp_path: Path) -> None:
    (tmp_path / "broken.png").write_bytes(b"not a picture")
    with pytest.raises(ConfigError, match=r"broken\.png: cannot be read as an image"):
        make_bank(find_images(tmp_path), crop_px=CROP, tiles=2, sprites=2, seed=1)
