from __future__ import annotations

import io
import math
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy import ndimage

from robustgen.data.corruptions import CORRUPTIONS, GROUPS, SEVERITIES, blur, corrupt, digital, grids, official, weather
from robustgen.errors import UserError

SIZES = [(1, 16), (3, 32), (1, 45)]
RANDOM = ("gaussian_noise", "shot_noise", "impulse_noise", "glass_blur", "motion_blur", "snow", "frost", "fog")


def smooth(n: int, channels: int, size: int, seed: int = 0) -> np.ndarray:
    """Random smooth images uint8 (n, channels, size, size) that use the whole range."""
    field = np.random.default_rng(seed).standard_normal((n, channels, size, size))
    field = ndimage.gaussian_filter(field, (0, 0, size / 10, size / 10), mode="wrap")
    field -= field.min((2, 3), keepdims=True)
    return np.rint(255 * field / field.max((2, 3), keepdims=True)).astype(np.uint8)


def constant(value: int, channels: int = 3, size: int = 32, n: int = 2) -> np.ndarray:
    return np.full((n, channels, size, size), value, dtype=np.uint8)


def change(images: np.ndarray, name: str, severity: int) -> float:
    made = corrupt(images, name, severity, 0, range(len(images)))
    return float(((made.astype(float) - images) ** 2).mean())


def test_fifteen_in_four_groups() -> None:
    groups = [group for group, _ in CORRUPTIONS.values()]
    assert {group: groups.count(group) for group in GROUPS} == {"noise": 3, "blur": 4, "weather": 4, "digital": 4}


@pytest.mark.parametrize("name", CORRUPTIONS)
@pytest.mark.parametrize(("channels", "size"), SIZES)
def test_an_image_is_corrupted_by_itself_and_again_alike(name: str, channels: int, size: int) -> None:
    images, indices = smooth(3, channels, size), np.array([7, 2, 40])
    for severity in SEVERITIES:
        made = corrupt(images, name, severity, 1, indices)
        assert made.dtype == np.uint8
        assert made.shape == images.shape
        assert (made != images).any()
        np.testing.assert_array_equal(corrupt(images[1:2], name, severity, 1, indices[1:2])[0], made[1])
        np.testing.assert_array_equal(corrupt(images[::-1], name, severity, 1, indices[::-1]), made[::-1])
    assert (images == smooth(3, channels, size)).all()  # left alone


@pytest.mark.parametrize("name", [*RANDOM, "elastic_transform"])
def test_seed_place_and_severity_name_the_stream(name: str) -> None:
    images = np.repeat(smooth(1, 3, 32), 2, 0)
    made = corrupt(images, name, 2, 0, [0, 1])
    assert (made[0] != made[1]).any()
    assert (corrupt(images, name, 2, 5, [0, 1])[0] != made[0]).any()


@pytest.mark.parametrize("name", [name for name in CORRUPTIONS if name not in (*RANDOM, "elastic_transform")])
def test_the_others_draw_nothing(name: str) -> None:
    images = smooth(2, 3, 32)
    np.testing.assert_array_equal(corrupt(images, name, 2, 0, [0, 1]), corrupt(images, name, 2, 5, [3, 4]))


@pytest.mark.parametrize("name", CORRUPTIONS)
@pytest.mark.parametrize(("channels", "size"), SIZES[:2])
def test_severity_is_severity(name: str, channels: int, size: int) -> None:
    images = smooth(20, channels, size)
    found = [change(images, name, severity) for severity in SEVERITIES]
    # published as they are: their milder levels shift more, or compare different parameters
    if name == "elastic_transform":
        assert found[0] > found[-1] > 0  # the affine shift shrinks while the local displacements grow
    elif name in ("glass_blur", "frost", "motion_blur", "pixelate"):
        assert found[0] < found[-1]
    else:
        assert found == sorted(found)
        assert len({*found}) == 5


@pytest.mark.parametrize(("severity", "std"), zip(SEVERITIES, (0.04, 0.06, 0.08, 0.09, 0.10), strict=True))
def test_gaussian_noise_has_its_standard_deviation(severity: int, std: float) -> None:
    noise = corrupt(constant(128, n=20), "gaussian_noise", severity, 0, range(20)) / 255 - 128 / 255
    assert noise.std() == pytest.approx(std, rel=0.02)
    assert abs(noise.mean()) < 3 * std / math.sqrt(noise.size)


def test_shot_noise_is_poisson_of_the_value() -> None:
    for value in (26, 128):
        noise = corrupt(constant(value, n=20), "shot_noise", 3, 0, range(20)) / 255
        assert noise.var() == pytest.approx(value / 255 / 100, rel=0.05)
        assert noise.mean() == pytest.approx(value / 255, rel=0.01)
    assert (corrupt(constant(0), "shot_noise", 5, 0, [0, 1]) == 0).all()


def test_impulse_noise_replaces_its_share_by_black_and_white() -> None:
    made = corrupt(constant(128, n=30), "impulse_noise", 5, 0, range(30))
    assert {*np.unique(made)} == {0, 128, 255}
    for value in (0, 255):
        assert (made == value).mean() == pytest.approx(0.035, rel=0.05)


@pytest.mark.parametrize("value", [0, 77, 255])
@pytest.mark.parametrize("size", [16, 32, 45])
@pytest.mark.parametrize(
    "name", ["defocus_blur", "glass_blur", "motion_blur", "zoom_blur", "contrast", "elastic_transform", "pixelate"]
)
def test_constant_images_stay(name: str, value: int, size: int) -> None:
    for severity in SEVERITIES:
        images = constant(value, size=size)
        np.testing.assert_array_equal(corrupt(images, name, severity, 0, [0, 1]), images)


def test_defocus_is_the_published_kernel_at_32_pixels() -> None:
    np.testing.assert_allclose(blur.disc(1.5, 0.1, 1.0)[1:4, 1:4], np.full((3, 3), 1 / 9), atol=1e-6)
    beside = math.exp(-1 / (2 * 0.4**2))
    line = np.array([beside, 1, beside]) / (1 + 2 * beside)
    np.testing.assert_allclose(blur.disc(0.3, 0.4, 1.0), np.outer(line, line), atol=1e-9)


@pytest.mark.parametrize("scale", [0.25, 0.5, 0.875, 1.0, 2.0, 4.7])
def test_defocus_on_other_grids_blurs_alike(scale: float) -> None:
    kernel = blur.disc(1.5, 0.1, scale)
    place = np.arange(len(kernel)) - len(kernel) // 2
    assert kernel.sum() == pytest.approx(1)
    np.testing.assert_allclose(kernel, kernel[::-1, ::-1], atol=1e-12)
    width = math.sqrt((kernel.sum(0) * place**2).sum()) / scale  # in pixels of 32
    assert math.sqrt(2 / 3) - 1e-6 < width < math.sqrt(2 / 3) * (1.2 if scale >= 0.875 else 1.5 / scale**0.5)


def test_glass_takes_pixels_from_above_and_left() -> None:
    ramp = np.arange(32, dtype=np.uint8) * 8
    rows = np.broadcast_to(ramp[:, None], (1, 1, 32, 32)).copy()
    made = corrupt(rows, "glass_blur", 1, 0, [0])
    assert {*np.unique(rows.astype(int) - made)} == {0, 8}
    np.testing.assert_array_equal(made[:, :, :2], rows[:, :, :2])  # the border stays
    np.testing.assert_array_equal(made[:, :, :, :2], rows[:, :, :, :2])
    moved = (made != rows)[0, 0, 2:, 2:].mean()
    assert moved == pytest.approx(0.5, abs=0.06)


def test_motion_smears_a_point_along_its_direction() -> None:
    x = np.zeros((3, 1, 32, 32))
    x[:, :, 16, 16] = 1
    smeared = blur.smeared(x, 6, 2.0, np.array([0.0, 90.0, 45.0]))
    assert smeared.sum((1, 2, 3)) == pytest.approx(1)
    profile = np.exp(-(np.arange(5) ** 2) / 8)
    np.testing.assert_allclose(smeared[0, 0, 16, 16:11:-1], profile / smeared_total(), rtol=1e-3)
    np.testing.assert_allclose(smeared[1, 0, 16:11:-1, 16], profile / smeared_total(), rtol=1e-3)
    rows, columns = np.nonzero(smeared[2, 0] > 1e-3)
    assert np.abs(rows - columns).max() <= 1
    assert rows.min() < 14


def smeared_total() -> float:
    return float(np.exp(-(np.arange(13) ** 2) / 8).sum())


def test_zoom_is_an_average_of_magnifications() -> None:
    images = smooth(2, 3, 32)
    x = images / 255
    for severity, bound in zip(SEVERITIES, (1.06, 1.11, 1.16, 1.21, 1.26), strict=True):
        factors = np.arange(1, bound, 0.01)  # as published; in floating point the first two reach their bound
        layers = [x, *(grids.zoomed(x, factor) for factor in factors)]
        made = corrupt(images, "zoom_blur", severity, 0, [0, 1])
        assert np.abs(made - sum(layers) / len(layers) * 255).max() < 0.5 + 1e-6
    assert blur.ZOOM == (7, 12, 16, 21, 26)
    np.testing.assert_allclose(grids.zoomed(x, 1.0), x, atol=1e-12)
    line = np.arange(32.0)
    np.testing.assert_allclose(grids.zoomed(np.outer(line, np.ones(32)), 2.0)[:, 0], (line - 15.5) / 2 + 15.5)


@pytest.mark.parametrize(("severity", "shift"), zip(SEVERITIES, (0.05, 0.1, 0.15, 0.2, 0.3), strict=True))
def test_brightness_shifts_the_value_and_keeps_the_hue(severity: int, shift: float) -> None:
    from matplotlib.colors import rgb_to_hsv

    images = smooth(4, 3, 32)
    images[:, :, 0, 0] = 0  # black has no hue
    made = corrupt(images, "brightness", severity, 0, range(4))
    before, after = (rgb_to_hsv(each.transpose(0, 2, 3, 1) / 255) for each in (images, made))
    np.testing.assert_allclose(after[..., 2], np.minimum(before[..., 2] + shift, 1), atol=0.5001 / 255)
    strong = (before[..., 1] > 0.2) & (before[..., 2] > 0.2)
    np.testing.assert_allclose(after[..., 1][strong], before[..., 1][strong], atol=0.02)
    turn = np.abs(after[..., 0] - before[..., 0])[strong]
    assert np.minimum(turn, 1 - turn).max() < 0.02
    grey = smooth(2, 1, 16)
    made = corrupt(grey, "brightness", severity, 0, [0, 1])
    np.testing.assert_allclose(made, 255 * np.minimum(grey / 255 + shift, 1), atol=0.5 + 1e-6)


@pytest.mark.parametrize(("severity", "share"), zip(SEVERITIES, (0.75, 0.5, 0.4, 0.3, 0.15), strict=True))
def test_contrast_is_drawn_towards_each_channels_mean(severity: int, share: float) -> None:
    images = smooth(2, 3, 32)
    mean = images.mean((2, 3), keepdims=True)
    made = corrupt(images, "contrast", severity, 0, [0, 1])
    np.testing.assert_allclose(made, mean + share * (images - mean), atol=0.5 + 1e-6)


def test_fog_hides_black_images_only() -> None:
    assert (corrupt(constant(0), "fog", 5, 0, [0, 1]) == 0).all()
    made = corrupt(constant(200), "fog", 5, 0, [0, 1])
    assert made.max() <= 200
    assert made.std() > 5
    assert (made[:, 0] == made[:, 2]).all()  # one cloud for all channels


@pytest.mark.parametrize("decay", [1.05, 1.75, 3.0])
def test_plasma_is_rougher_the_slower_it_decays(decay: float) -> None:
    clouds = weather.plasma(np.random.default_rng(0).uniform(-1, 1, (20, 32, 32)), decay)
    assert clouds.min((1, 2)) == pytest.approx(0)
    assert clouds.max((1, 2)) == pytest.approx(1)
    rough = np.abs(np.diff(clouds, axis=2)).mean()
    smoother = weather.plasma(np.random.default_rng(0).uniform(-1, 1, (20, 32, 32)), 1.5 * decay)
    assert rough > np.abs(np.diff(smoother, axis=2)).mean()


def test_plasma_without_displacement_is_the_mean_of_its_neighbours() -> None:
    draws = np.zeros((1, 8, 8))
    draws[0, 4, 4] = 1  # only the centre is raised
    cloud = weather.plasma(draws, 2.0)[0]
    assert cloud[4, 4] == 1
    assert cloud[0, 0] == 0
    assert cloud[0, 4] == cloud[4, 0] == 0.5
    assert cloud[2, 2] == pytest.approx((0 + 0.5 + 0.5 + 1) / 4)


def test_snow_and_frost_whiten() -> None:
    dark = constant(30, n=20)
    for name in ("snow", "frost"):
        made = [corrupt(dark, name, severity, 0, range(20)) for severity in (1, 5)]
        assert 30 < made[0].mean() < made[1].mean()
        assert made[1].std() > 3
    assert (corrupt(dark, "snow", 5, 0, range(20)) >= 30).all()


def test_ice_is_as_bright_and_rough_as_published_photographs() -> None:
    ice = np.stack([weather._ice(np.random.default_rng(k), 3) for k in range(60)])
    assert ice.min() >= 0
    assert ice.max() <= 1
    levels, depths = ice[:, 1].mean((1, 2)), ice[:, 1].std((1, 2))
    assert 0.55 < levels.mean() < 0.72
    assert 0.07 < depths.mean() < 0.12
    means = ice.mean((0, 2, 3))
    assert means[0] < means[1] < means[2]  # a bluish white
    assert weather._ice(np.random.default_rng(0), 1).shape == (1, 32, 32)


def test_elastic_maps_corners_where_they_should_go() -> None:
    shifts = np.random.default_rng(0).uniform(-2, 2, (4, 3, 2))
    at = digital.affine(shifts, 32)
    corners = np.array([(26.0, 26.0), (6.0, 26.0), (6.0, 6.0)])
    for moved, places in zip(corners + shifts, at, strict=True):
        for corner, (row, column) in zip(corners, moved, strict=True):
            source = [ndimage.map_coordinates(each, [[row], [column]], order=1)[0] for each in places]
            np.testing.assert_allclose(source, corner, atol=1e-9)
    np.testing.assert_allclose(digital.affine(np.zeros((1, 3, 2)), 32)[0], np.indices((32, 32)), atol=1e-9)


@pytest.mark.parametrize("severity", SEVERITIES)
def test_pixelate_and_jpeg_are_pillows(severity: int) -> None:
    image = smooth(1, 3, 32)
    picture = Image.fromarray(np.ascontiguousarray(image[0].transpose(1, 2, 0)))
    file = io.BytesIO()
    picture.save(file, "JPEG", quality=(80, 65, 58, 50, 40)[severity - 1])
    expected = np.asarray(Image.open(file)).transpose(2, 0, 1)
    np.testing.assert_array_equal(corrupt(image, "jpeg_compression", severity, 0, [0])[0], expected)
    few = (30, 28, 27, 24, 20)[severity - 1]
    coarse = picture.resize((few, few), Image.Resampling.BOX).resize((32, 32), Image.Resampling.BOX)
    np.testing.assert_array_equal(
        corrupt(image, "pixelate", severity, 0, [0])[0], np.asarray(coarse).transpose(2, 0, 1)
    )
    grey = smooth(1, 1, 16)
    file = io.BytesIO()
    Image.fromarray(grey[0, 0]).save(file, "JPEG", quality=(80, 65, 58, 50, 40)[severity - 1])
    np.testing.assert_array_equal(
        corrupt(grey, "jpeg_compression", severity, 0, [0])[0, 0], np.asarray(Image.open(file))
    )


@pytest.mark.parametrize("side", [8, 16, 45, 64])
def test_fields_are_resized_without_gain(side: int) -> None:
    field = np.random.default_rng(0).random((2, 32, 32))
    made = grids.resized(field, side)
    assert made.shape == (2, side, side)
    np.testing.assert_allclose(grids.resized(np.full((1, 32, 32), 0.3), side), 0.3)
    assert made.mean() == pytest.approx(field.mean(), abs=0.02)
    if side < 32:
        assert made.std() < 0.7 * field.std()
    np.testing.assert_array_equal(grids.resized(field, 32), field)


@pytest.mark.parametrize(
    ("images", "name", "severity", "indices", "message"),
    [
        (constant(1), "gausian_noise", 1, [0, 1], "unknown corruption 'gausian_noise'; did you mean gaussian_noise?"),
        (constant(1), "fog", 0, [0, 1], "severity is 0; give 1"),
        (constant(1), "fog", 6, [0, 1], "severity is 6; give 1"),
        (constant(1) / 255, "fog", 1, [0, 1], "need uint8 images"),
        (constant(1, channels=2), "fog", 1, [0, 1], "need uint8 images"),
        (constant(1)[:, :, :20], "fog", 1, [0, 1], "need uint8 images"),
        (constant(1)[0], "fog", 1, [0, 1], "need uint8 images"),
        (constant(1, size=7), "fog", 1, [0, 1], "of 8 pixels a side"),
        (constant(1)[:0], "fog", 1, [], "need an image"),
        (constant(1), "fog", 1, [0], "there are 1 indices for 2 images"),
    ],
)
def test_what_the_user_can_mend(images: np.ndarray, name: str, severity: int, indices: list[int], message: str) -> None:
    with pytest.raises(UserError) as caught:
        corrupt(images, name, severity, 0, indices)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


COUNT = 6


@pytest.fixture
def published(mirror: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A small CIFAR-10-C: in each file the channels of image k at severity s hold 10 s + k, and 60 and 120 more."""
    monkeypatch.setattr(official, "COUNT", COUNT)
    root = mirror / official.FOLDER
    root.mkdir()
    values = (10 * np.arange(1, 6)[:, None] + np.arange(COUNT)).reshape(-1, 1, 1, 1) + np.array([0, 60, 120])
    array = np.broadcast_to(values, (5 * COUNT, 32, 32, 3)).astype(np.uint8)
    for name in CORRUPTIONS:
        np.save(root / f"{name}.npy", array)
    np.save(root / "labels.npy", np.tile(np.arange(COUNT), 5).astype(np.uint8))
    return root


def test_official_rows_are_severity_major(published: Path) -> None:
    assert official.folder() == published
    places = np.array([4, 0, 5])
    found = official.read(published, places, places, "snow")
    assert found.shape == (5, 3, 3, 32, 32)
    assert found.dtype == np.uint8
    expected = 10 * np.arange(1, 6)[:, None] + places
    for channel in range(3):
        assert (found[:, :, channel] == (expected + 60 * channel)[..., None, None]).all()


def test_official_labels_must_agree(published: Path) -> None:
    with pytest.raises(UserError, match=r"labels.npy differs from the data file for 2 of 3 test images"):
        official.read(published, np.array([4, 1, 2]), np.array([4, 0, 5]), "snow")
    labels = np.tile(np.arange(COUNT), 5).astype(np.uint8)
    labels[2 * COUNT + 4] = 9  # at one severity only
    np.save(published / "labels.npy", labels)
    with pytest.raises(UserError, match="for 1 of 1 test images"):
        official.read(published, np.array([4]), np.array([4]), "snow")


def test_official_files_that_are_damaged(published: Path) -> None:
    place = np.array([0])
    snow = published / "snow.npy"

    def error() -> str:
        with pytest.raises(UserError) as caught:
            official.read(published, place, place, "snow")
        assert "\n" not in str(caught.value)
        return str(caught.value)

    whole = snow.read_bytes()
    snow.write_bytes(whole[:1000])
    assert "snow.npy is not a readable npy file" in error()
    snow.write_bytes(b"nothing")
    assert "snow.npy is not a readable npy file" in error()
    np.save(snow, np.array([{"a": 1}], dtype=object), allow_pickle=True)
    assert "snow.npy is not a readable npy file" in error()
    np.save(snow, np.zeros((5 * COUNT, 3, 32, 32), np.uint8))
    assert "snow.npy holds uint8 of shape (30, 3, 32, 32), not uint8 of shape (30, 32, 32, 3)" in error()
    np.save(snow, np.zeros((5 * COUNT, 32, 32, 3), np.float32))
    assert "holds float32" in error()
    snow.unlink()
    assert "snow.npy is missing; copy all files of CIFAR-10-C" in error()
    (published / "labels.npy").unlink()
    assert "labels.npy is missing" in error()


def test_official_reader_knows_its_bounds(published: Path) -> None:
    with pytest.raises(UserError, match="images 0 to 6 are asked for, but CIFAR-10 has 6"):
        official.read(published, np.array([0, 6]), np.array([0, 6]), "snow")
    with pytest.raises(UserError, match="unknown corruption 'spatter'"):
        official.read(published, np.array([0]), np.array([0]), "spatter")


def test_official_folder_is_looked_for_in_the_mirror(mirror: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert official.folder() is None
    monkeypatch.setenv("ROBUSTGEN_MIRROR", "http://127.0.0.1:9")
    assert official.folder() is None
    assert official.is_cifar10((3, 32, 32), official.CLASSES)
    assert not official.is_cifar10((3, 16, 16), official.CLASSES)
    assert not official.is_cifar10((3, 32, 32), tuple("0123456789"))
