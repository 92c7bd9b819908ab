"""Every encoding against a conversion written out here; then whatever a network may send."""

from __future__ import annotations

import array
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qdtrack_ros.data.compressed_codec import decode_compressed
from qdtrack_ros.data.image_codec import decode_image
from qdtrack_ros.data.image_errors import ImageError, ImageFault

RNG = np.random.default_rng(7)
HEIGHT, WIDTH = 10, 12


def message(data, encoding, width=WIDTH, height=HEIGHT, step=None, is_bigendian=0):
    raw = np.ascontiguousarray(data).tobytes()
    step = len(raw) // height if step is None else step
    return SimpleNamespace(
        width=width, height=height, encoding=encoding, step=step, is_bigendian=is_bigendian, data=array.array("B", raw)
    )


def random_bytes(*shape):
    return RNG.integers(0, 256, shape, dtype=np.uint8)


def yuv_to_bgr(y, u, v):
    """ITU-R BT.601, studio swing, with 20-bit fixed point factors rounded to nearest."""
    y, u, v = (np.asarray(plane, np.int64) for plane in (y, u, v))
    luma = np.maximum(0, y - 16) * 1220542 + (1 << 19)
    blue = (luma + 2116026 * (u - 128)) >> 20
    green = (luma - 852492 * (v - 128) - 409993 * (u - 128)) >> 20
    red = (luma + 1673527 * (v - 128)) >> 20
    return np.clip(np.stack([blue, green, red], axis=-1), 0, 255).astype(np.uint8)


@pytest.mark.parametrize(
    ("encoding", "channels", "expected"),
    [
        ("bgr8", 3, lambda p: p),
        ("8UC3", 3, lambda p: p),
        ("rgb8", 3, lambda p: p[..., ::-1]),
        ("bgra8", 4, lambda p: p[..., :3]),
        ("8UC4", 4, lambda p: p[..., :3]),
        ("rgba8", 4, lambda p: p[..., 2::-1]),
        ("mono8", 1, lambda p: np.repeat(p, 3, axis=2)),
        ("8UC1", 1, lambda p: np.repeat(p, 3, axis=2)),
    ],
)
@pytest.mark.parametrize("padding", [0, 5])
def test_eight_bit_encodings_and_padded_rows(encoding, channels, expected, padding):
    pixels = random_bytes(HEIGHT, WIDTH, channels)
    rows = np.concatenate([pixels.reshape(HEIGHT, -1), random_bytes(HEIGHT, padding)], axis=1)
    picture = decode_image(message(rows, encoding))
    assert picture.dtype == np.uint8 and picture.flags.c_contiguous
    np.testing.assert_array_equal(picture, expected(pixels))


@pytest.mark.parametrize("is_bigendian", [0, 1])
@pytest.mark.parametrize(
    ("encoding", "channels", "expected"),
    [
        ("mono16", 1, lambda p: np.repeat(p, 3, axis=2)),
        ("bgr16", 3, lambda p: p),
        ("rgb16", 3, lambda p: p[..., ::-1]),
        ("bgra16", 4, lambda p: p[..., :3]),
        ("rgba16", 4, lambda p: p[..., 2::-1]),
    ],
)
def test_sixteen_bit_encodings_in_both_byte_orders(encoding, channels, expected, is_bigendian):
    values = RNG.integers(0, 65536, (HEIGHT, WIDTH, channels), dtype=np.uint16)
    values[0, 0], values[0, 1] = 0, 65535
    sent = values.astype(">u2" if is_bigendian else "<u2")
    picture = decode_image(message(sent, encoding, is_bigendian=is_bigendian))
    np.testing.assert_array_equal(picture, expected(np.round(values / 257.0).astype(np.uint8)))


@pytest.mark.parametrize("encoding", ["yuv422", "uyvy", "yuv422_yuy2", "yuyv"])
@pytest.mark.parametrize("padding", [0, 6])
def test_packed_yuv_is_exact(encoding, padding):
    y, u, v = random_bytes(HEIGHT, WIDTH), random_bytes(HEIGHT, WIDTH // 2), random_bytes(HEIGHT, WIDTH // 2)
    order = (u, y[:, 0::2], v, y[:, 1::2]) if encoding in ("yuv422", "uyvy") else (y[:, 0::2], u, y[:, 1::2], v)
    rows = np.stack(order, axis=2).reshape(HEIGHT, -1)
    rows = np.concatenate([rows, random_bytes(HEIGHT, padding)], axis=1)
    expected = yuv_to_bgr(y, np.repeat(u, 2, axis=1), np.repeat(v, 2, axis=1))
    np.testing.assert_array_equal(decode_image(message(rows, encoding)), expected)


@pytest.mark.parametrize("padding", [0, 4])
def test_nv12_is_exact(padding):
    y, u, v = random_bytes(HEIGHT, WIDTH), random_bytes(HEIGHT // 2, WIDTH // 2), random_bytes(HEIGHT // 2, WIDTH // 2)
    rows = np.concatenate([y, np.stack([u, v], axis=2).reshape(HEIGHT // 2, WIDTH)])
    rows = np.concatenate([rows, random_bytes(len(rows), padding)], axis=1)
    expected = yuv_to_bgr(y, u.repeat(2, 0).repeat(2, 1), v.repeat(2, 0).repeat(2, 1))
    np.testing.assert_array_equal(decode_image(message(rows, "nv12", step=WIDTH + padding)), expected)


@pytest.mark.parametrize("pattern", ["rggb", "bggr", "gbrg", "grbg"])
def test_bayer_patterns_interpolate_their_neighbours(pattern):
    mosaic = random_bytes(HEIGHT, WIDTH)
    colour_of = np.array(list(pattern)).reshape(2, 2)
    picture = decode_image(message(mosaic, f"bayer_{pattern}8"))
    for row in range(2, HEIGHT - 2):
        for column in range(2, WIDTH - 2):
            for channel, colour in enumerate("bgr"):
                own = colour_of[row % 2, column % 2]
                if own == colour:
                    expected = int(mosaic[row, column])
                else:  # the mean of the nearest pixels of that colour, rounded to nearest
                    near = [(0, 1), (0, -1), (1, 0), (-1, 0), (1, 1), (1, -1), (-1, 1), (-1, -1)]
                    found = [(dr, dc) for dr, dc in near if colour_of[(row + dr) % 2, (column + dc) % 2] == colour]
                    closest = min(dr * dr + dc * dc for dr, dc in found)
                    values = [int(mosaic[row + dr, column + dc]) for dr, dc in found if dr * dr + dc * dc == closest]
                    expected = (2 * sum(values) + len(values)) // (2 * len(values))
                assert picture[row, column, channel] == expected


def test_bgr_without_padding_is_not_copied():
    sent = message(random_bytes(HEIGHT, WIDTH, 3), "bgr8")
    assert np.shares_memory(decode_image(sent), np.frombuffer(sent.data, np.uint8))


@pytest.mark.parametrize(
    ("fault", "sent"),
    [
        (ImageFault.ZERO_SIZE, message(b"", "bgr8", height=1, width=0)),
        (ImageFault.ZERO_SIZE, SimpleNamespace(width=4, height=0, encoding="bgr8", step=12, is_bigendian=0, data=b"")),
        (ImageFault.OVERSIZED, message(b"", "bgr8", height=100_000, width=100_000, step=300_000)),
        (ImageFault.OVERSIZED, message(b"", "foo", height=2**32 - 1, width=2**32 - 1, step=1)),
        (ImageFault.TRUNCATED, message(random_bytes(HEIGHT, WIDTH - 1, 3), "bgr8", step=3 * WIDTH)),
        (ImageFault.TRUNCATED, message(random_bytes(HEIGHT, WIDTH), "nv12", step=WIDTH)),
        (ImageFault.TRUNCATED, message(b"", "mono8", step=WIDTH)),
        (ImageFault.BAD_STEP, message(random_bytes(HEIGHT, WIDTH, 3), "bgr8", step=WIDTH)),
        (ImageFault.BAD_STEP, message(random_bytes(HEIGHT, WIDTH), "mono8", step=0)),
        (ImageFault.BAD_STEP, message(random_bytes(HEIGHT, WIDTH), "mono16", step=WIDTH)),
        (ImageFault.UNKNOWN_ENCODING, message(random_bytes(HEIGHT, WIDTH), "no such encoding")),
        (ImageFault.UNKNOWN_ENCODING, message(random_bytes(HEIGHT, WIDTH), "")),
        (ImageFault.UNDECODABLE, message(random_bytes(HEIGHT, 10), "yuv422", width=5)),
        (ImageFault.UNDECODABLE, message(random_bytes(2, 2), "bayer_rggb8", width=2, height=2)),
        (ImageFault.UNDECODABLE, message(random_bytes(15, 4), "nv12", width=4, height=5, step=4)),
    ],
)
def test_each_fault_has_its_kind_and_its_words(fault, sent):
    with pytest.raises(ImageError, match=r"\w") as caught:
        decode_image(sent)
    assert caught.value.kind is fault


def test_the_last_row_may_lack_its_padding():
    pixels = random_bytes(HEIGHT, WIDTH, 3)
    rows = np.concatenate([pixels.reshape(HEIGHT, -1), random_bytes(HEIGHT, 8)], axis=1)
    raw = rows.tobytes()[:-8]
    sent = SimpleNamespace(width=WIDTH, height=HEIGHT, encoding="bgr8", step=3 * WIDTH + 8, is_bigendian=0, data=raw)
    np.testing.assert_array_equal(decode_image(sent), pixels)


def test_rare_encodings_go_to_cv_bridge():
    cv_bridge = pytest.importorskip("cv_bridge", reason="cv_bridge is not installed")
    pixels = random_bytes(HEIGHT, WIDTH, 2)
    sent = message(pixels, "8UC2")
    sent.header = None
    try:
        expected = cv_bridge.CvBridge().imgmsg_to_cv2(sent, desired_encoding="bgr8")
    except Exception:
        with pytest.raises(ImageError) as caught:
            decode_image(sent)
        assert caught.value.kind in (ImageFault.UNKNOWN_ENCODING, ImageFault.UNDECODABLE)
    else:
        np.testing.assert_array_equal(decode_image(sent), expected)


@pytest.mark.parametrize(("encoding", "channels"), [("bgr8", 3), ("rgb8", 3), ("bgra8", 4), ("rgba8", 4), ("mono8", 1)])
def test_cv_bridge_agrees_where_it_is_right(encoding, channels):
    cv_bridge = pytest.importorskip("cv_bridge", reason="cv_bridge is not installed")
    sent = message(random_bytes(HEIGHT, WIDTH, channels), encoding)
    np.testing.assert_array_equal(decode_image(sent), cv_bridge.CvBridge().imgmsg_to_cv2(sent, desired_encoding="bgr8"))


ENCODINGS = st.one_of(
    st.sampled_from(
        ["bgr8", "rgb8", "bgra8", "mono8", "mono16", "bgr16", "yuv422", "yuv422_yuy2", "nv12", "bayer_rggb8", "8UC3"]
        + ["16UC1", "32FC1", "bayer_gbrg16", "64FC4", "8UC2"]
    ),
    st.text(max_size=12),
)
SIZES = st.one_of(st.integers(0, 40), st.sampled_from([2**16, 2**31 - 1, 2**32 - 1]))


@settings(max_examples=400, deadline=None)
@given(ENCODINGS, SIZES, SIZES, SIZES, st.integers(0, 255), st.binary(max_size=6000))
def test_nothing_but_an_image_error_ever_comes_out(encoding, width, height, step, is_bigendian, data):
    sent = SimpleNamespace(
        width=width, height=height, encoding=encoding, step=step, is_bigendian=is_bigendian, data=array.array("B", data)
    )
    try:
        picture = decode_image(sent, max_pixels=1 << 20)
    except ImageError as error:
        assert isinstance(error.kind, ImageFault) and str(error)
    else:
        assert picture.shape == (height, width, 3) and picture.dtype == np.uint8


def packed(suffix, picture):
    return cv2.imencode(suffix, picture)[1].tobytes()


PICTURE = cv2.GaussianBlur(random_bytes(40, 60, 3), (9, 9), 3)


def test_compressed_images_come_back():
    png = SimpleNamespace(format="bgr8; png compressed bgr8", data=array.array("B", packed(".png", PICTURE)))
    np.testing.assert_array_equal(decode_compressed(png), PICTURE)
    jpeg = decode_compressed(SimpleNamespace(format="", data=packed(".jpg", PICTURE)))
    assert jpeg.shape == PICTURE.shape
    assert np.abs(jpeg.astype(int) - PICTURE).mean() < 3
    grey = decode_compressed(SimpleNamespace(format="mono8; png", data=packed(".png", PICTURE[..., 0])))
    np.testing.assert_array_equal(grey, np.repeat(PICTURE[..., :1], 3, axis=2))


def with_jpeg_size(data, width, height):
    frame = data.index(b"\xff\xc0")
    return data[: frame + 5] + height.to_bytes(2, "big") + width.to_bytes(2, "big") + data[frame + 9 :]


@pytest.mark.parametrize(
    ("fault", "data"),
    [
        (ImageFault.ZERO_SIZE, b""),
        (ImageFault.UNKNOWN_ENCODING, b"GIF89a" + bytes(50)),
        (ImageFault.TRUNCATED, packed(".jpg", PICTURE)[:-200]),
        (ImageFault.TRUNCATED, packed(".png", PICTURE)[:-200]),
        (ImageFault.OVERSIZED, with_jpeg_size(packed(".jpg", PICTURE), 65500, 65500)),
        (ImageFault.ZERO_SIZE, with_jpeg_size(packed(".jpg", PICTURE), 0, 10)),
        (ImageFault.UNDECODABLE, b"\xff\xd8\xff\xe0" + bytes(40) + b"\xff\xd9"),
        (ImageFault.UNDECODABLE, packed(".png", PICTURE)[:60] + bytes(300) + packed(".png", PICTURE)[-12:]),
        (ImageFault.UNDECODABLE, b"\x89PNG\r\n\x1a\nIEND"),
    ],
)
def test_each_fault_of_a_compressed_image_has_its_kind(fault, data):
    with pytest.raises(ImageError) as caught:
        decode_compressed(SimpleNamespace(format="jpeg", data=data))
    assert caught.value.kind is fault


@settings(max_examples=150, deadline=None)
@given(st.sampled_from([packed(".jpg", PICTURE), packed(".png", PICTURE)]), st.data())
def test_damaged_files_never_do_worse_than_an_image_error(whole, data):
    damaged = bytearray(whole)
    for _ in range(data.draw(st.integers(1, 12))):
        damaged[data.draw(st.integers(0, len(damaged) - 1))] = data.draw(st.integers(0, 255))
    try:
        picture = decode_compressed(SimpleNamespace(format="x", data=bytes(damaged)), max_pixels=1 << 20)
    except ImageError as error:
        assert isinstance(error.kind, ImageFault)
    else:
        assert picture.ndim == 3 and picture.shape[2] == 3 and picture.dtype == np.uint8
