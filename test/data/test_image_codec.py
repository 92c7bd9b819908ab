"""Every encoding against a conversion written out here; then whatever a network may send."""

from __future__ import annotations

import array
import sys
import tracemalloc
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
@pytest.mark.parametrize("encoding", ["nv12", "nv21"])
def test_semi_planar_yuv_is_exact(encoding, padding):
    y, u, v = random_bytes(HEIGHT, WIDTH), random_bytes(HEIGHT // 2, WIDTH // 2), random_bytes(HEIGHT // 2, WIDTH // 2)
    chroma = np.stack([u, v] if encoding == "nv12" else [v, u], axis=2)
    rows = np.concatenate([y, chroma.reshape(HEIGHT // 2, WIDTH)])
    rows = np.concatenate([rows, random_bytes(len(rows), padding)], axis=1)
    expected = yuv_to_bgr(y, u.repeat(2, 0).repeat(2, 1), v.repeat(2, 0).repeat(2, 1))
    np.testing.assert_array_equal(decode_image(message(rows, encoding, step=WIDTH + padding)), expected)


def interpolated(mosaic, pattern):
    """A Bayer mosaic [H, W] as BGR: the mean of the nearest pixels of each colour, rounded to nearest.

    The outermost pixels, which lack neighbours, are those next to them.
    """
    height, width = mosaic.shape
    colours = np.tile(np.array(list(pattern)).reshape(2, 2), (height // 2 + 1, width // 2 + 1))[:height, :width]
    picture = np.zeros((height, width, 3), np.int64)
    near = sorted(((dr, dc) for dr in (-1, 0, 1) for dc in (-1, 0, 1)), key=lambda d: d[0] ** 2 + d[1] ** 2)
    for row in range(1, height - 1):
        for column in range(1, width - 1):
            for channel, colour in enumerate("bgr"):
                found = [d for d in near if colours[row + d[0], column + d[1]] == colour]
                closest = [d for d in found if d[0] ** 2 + d[1] ** 2 == found[0][0] ** 2 + found[0][1] ** 2]
                total = sum(int(mosaic[row + dr, column + dc]) for dr, dc in closest)
                picture[row, column, channel] = (2 * total + len(closest)) // (2 * len(closest))
    return np.pad(picture[1:-1, 1:-1], ((1, 1), (1, 1), (0, 0)), mode="edge")


@pytest.mark.parametrize("pattern", ["rggb", "bggr", "gbrg", "grbg"])
@pytest.mark.parametrize(("height", "width"), [(HEIGHT, WIDTH), (7, 9), (3, 3), (4, 70)])
@pytest.mark.parametrize("padding", [0, 3])
def test_bayer_patterns_are_exact(pattern, height, width, padding):
    mosaic = random_bytes(height, width)
    rows = np.concatenate([mosaic, random_bytes(height, padding)], axis=1)
    picture = decode_image(message(rows, f"bayer_{pattern}8", width, height))
    np.testing.assert_array_equal(picture, interpolated(mosaic, pattern))


@pytest.mark.parametrize("pattern", ["rggb", "bggr", "gbrg", "grbg"])
@pytest.mark.parametrize("is_bigendian", [0, 1])
def test_wide_bayer_patterns_are_rounded_once(pattern, is_bigendian):
    mosaic = RNG.integers(0, 65536, (HEIGHT, WIDTH), dtype=np.uint16)
    rows = np.concatenate([mosaic.astype(">u2" if is_bigendian else "<u2").view(np.uint8), random_bytes(HEIGHT, 5)], 1)
    picture = decode_image(message(rows, f"bayer_{pattern}16", is_bigendian=is_bigendian))
    expected = np.floor(interpolated(mosaic, pattern) / 257.0 + 0.5).astype(np.uint8)
    np.testing.assert_array_equal(picture, expected)


def test_every_sixteen_bit_value_is_rounded_to_nearest():
    values = np.arange(65536, dtype=np.uint16).reshape(256, 256)
    picture = decode_image(message(values, "mono16", 256, 256))
    np.testing.assert_array_equal(picture[..., 0], np.floor(values / 257.0 + 0.5))


@pytest.mark.parametrize("encoding", ["bgr8", "mono8", "yuv422", "nv12", "bayer_rggb8"])
def test_the_byte_order_of_single_bytes_does_not_matter(encoding):
    rows = random_bytes(HEIGHT * 3 // 2, WIDTH * 3)
    pictures = [decode_image(message(rows, encoding, step=WIDTH * 3, is_bigendian=order)) for order in (0, 1, 255)]
    np.testing.assert_array_equal(pictures[0], pictures[1])
    np.testing.assert_array_equal(pictures[0], pictures[2])


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


class FakeBridge:
    """Stands in for CvBridge: knows `rare24`, three bytes a pixel, and turns it into `result`."""

    def __init__(self, result):
        self._result = result

    def encoding_to_dtype_with_channels(self, encoding):
        if encoding != "rare24":
            raise RuntimeError(f"Unrecognized image encoding [{encoding}]")
        return "uint8", 3

    def imgmsg_to_cv2(self, sent, desired_encoding):
        assert desired_encoding == "bgr8"
        if isinstance(self._result, Exception):
            raise self._result
        return self._result


@pytest.fixture
def bridge(monkeypatch):
    """``bridge(result)`` puts a cv_bridge in place that gives `result`; None stands for no cv_bridge."""

    def put(result):
        module = None if result is None else SimpleNamespace(CvBridge=lambda: FakeBridge(result))
        monkeypatch.setitem(sys.modules, "cv_bridge", module)

    return put


def test_rare_encodings_go_to_cv_bridge(bridge):
    pixels = random_bytes(HEIGHT, WIDTH, 3)
    bridge(pixels)
    np.testing.assert_array_equal(decode_image(message(pixels, "rare24")), pixels)


@pytest.mark.parametrize(
    ("fault", "encoding", "result", "spoiled"),
    [
        (ImageFault.UNKNOWN_ENCODING, "rare24", None, {}),
        (ImageFault.UNKNOWN_ENCODING, "rarer", random_bytes(HEIGHT, WIDTH, 3), {}),
        (ImageFault.UNDECODABLE, "rare24", TypeError("no\nconversion"), {}),
        (ImageFault.UNDECODABLE, "rare24", random_bytes(HEIGHT, WIDTH), {}),
        (ImageFault.BAD_STEP, "rare24", random_bytes(HEIGHT, WIDTH, 3), {"step": 3 * WIDTH + 1}),
        (ImageFault.TRUNCATED, "rare24", random_bytes(HEIGHT, WIDTH, 3), {"data": b"123"}),
    ],
)
def test_what_cv_bridge_cannot_do_is_refused(bridge, fault, encoding, result, spoiled):
    bridge(result)
    sent = message(random_bytes(HEIGHT, WIDTH, 3), encoding)
    for name, value in spoiled.items():
        setattr(sent, name, value)
    with pytest.raises(ImageError) as caught:
        decode_image(sent)
    assert caught.value.kind is fault and "\n" not in str(caught.value)


@pytest.mark.parametrize("encoding", ["16UC1", "32FC1", "16SC1", "8SC3"])
def test_depth_and_signed_values_are_no_picture(encoding):
    with pytest.raises(ImageError) as caught:
        decode_image(message(random_bytes(HEIGHT, WIDTH * 4), encoding, step=WIDTH * 2))
    assert caught.value.kind is ImageFault.UNKNOWN_ENCODING and encoding in str(caught.value)


@pytest.mark.parametrize(("encoding", "channels"), [("bgr8", 3), ("rgb8", 3), ("bgra8", 4), ("rgba8", 4), ("mono8", 1)])
def test_cv_bridge_agrees_where_it_is_right(encoding, channels):
    cv_bridge = pytest.importorskip("cv_bridge", reason="cv_bridge is not installed")
    sent = message(random_bytes(HEIGHT, WIDTH, channels), encoding)
    np.testing.assert_array_equal(decode_image(sent), cv_bridge.CvBridge().imgmsg_to_cv2(sent, desired_encoding="bgr8"))


BYTES_PER_PIXEL = {  # of the first plane
    **dict.fromkeys(["mono8", "8UC1", "nv12", "nv21"], 1),
    **{f"bayer_{pattern}8": 1 for pattern in ("rggb", "bggr", "gbrg", "grbg")},
    **dict.fromkeys(["mono16", "yuv422", "uyvy", "yuv422_yuy2", "yuyv", "bayer_rggb16", "bayer_grbg16", "16UC1"], 2),
    **dict.fromkeys(["bgr8", "rgb8", "8UC3"], 3),
    **dict.fromkeys(["bgra8", "rgba8", "8UC4", "32FC1"], 4),
    **{"bgr16": 6, "rgb16": 6, "bgra16": 8, "rgba16": 8, "64FC4": 32, "8UC2": 2},
}
ENCODINGS = st.one_of(st.sampled_from(sorted(BYTES_PER_PIXEL)), st.text(max_size=12))
SIZES = st.one_of(st.integers(0, 40), st.sampled_from([2**16, 2**31 - 1, 2**32 - 1]))
MAX_PIXELS = 1 << 16


def decoded_or_refused(sent):
    """The picture, None for one refused with a kind and words; memory in proportion to the limit, whatever is sent."""
    tracemalloc.start()
    try:
        picture = decode_image(sent, max_pixels=MAX_PIXELS)
    except ImageError as error:
        assert isinstance(error.kind, ImageFault) and str(error) and "\n" not in str(error)
        return None
    finally:
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < 32 * MAX_PIXELS
    assert picture.shape == (sent.height, sent.width, 3) and picture.dtype == np.uint8
    return picture


@settings(max_examples=300, deadline=None)
@given(ENCODINGS, SIZES, SIZES, SIZES, st.integers(0, 255), st.binary(max_size=6000))
def test_nothing_but_an_image_error_ever_comes_out(encoding, width, height, step, is_bigendian, data):
    sent = SimpleNamespace(
        width=width, height=height, encoding=encoding, step=step, is_bigendian=is_bigendian, data=array.array("B", data)
    )
    decoded_or_refused(sent)


@settings(max_examples=300, deadline=None)
@given(
    st.sampled_from(sorted(BYTES_PER_PIXEL)),
    st.integers(1, 24),
    st.integers(1, 24),
    st.integers(-2, 9),
    st.integers(-3, 3),
    st.integers(0, 255),
)
def test_images_that_are_nearly_right_are_decoded_or_refused(encoding, width, height, padding, cut, is_bigendian):
    step = max(0, width * BYTES_PER_PIXEL[encoding] + padding)
    rows = height * 3 // 2 if encoding in ("nv12", "nv21") else height
    data = random_bytes(max(0, step * rows + cut))
    sent = SimpleNamespace(
        width=width, height=height, encoding=encoding, step=step, is_bigendian=is_bigendian, data=data.tobytes()
    )
    picture = decoded_or_refused(sent)
    complete = padding >= 0 and cut >= -padding
    if encoding in ("bgr8", "rgba8", "mono8", "mono16", "bgra16"):
        assert (picture is not None) == complete, "refused although it is whole, or taken although it is not"
    elif picture is not None:
        assert complete


def packed(suffix, picture):
    return cv2.imencode(suffix, picture)[1].tobytes()


PICTURE = cv2.GaussianBlur(random_bytes(40, 60, 3), (9, 9), 3)


def with_thumbnail(data, small):
    """As phones and single-lens cameras do it: a second JPEG, with an end of its own, in the header of the first."""
    return data[:2] + b"\xff\xe1" + (len(small) + 2).to_bytes(2, "big") + small + data[2:]


WHOLE = {
    "jpeg": packed(".jpg", PICTURE),
    "grey jpeg": packed(".jpg", PICTURE[..., 0]),
    "progressive jpeg": cv2.imencode(".jpg", PICTURE, [cv2.IMWRITE_JPEG_PROGRESSIVE, 1])[1].tobytes(),
    "jpeg in intervals": cv2.imencode(".jpg", PICTURE, [cv2.IMWRITE_JPEG_RST_INTERVAL, 2])[1].tobytes(),
    "jpeg with a thumbnail": with_thumbnail(packed(".jpg", PICTURE), packed(".jpg", PICTURE[:8, :8])),
    "png": packed(".png", PICTURE),
    "16-bit png": packed(".png", PICTURE.astype(np.uint16) * 257),
    "png with alpha": packed(".png", np.dstack([PICTURE, PICTURE[..., :1]])),
}


def test_compressed_images_come_back():
    png = SimpleNamespace(format="bgr8; png compressed bgr8", data=array.array("B", packed(".png", PICTURE)))
    np.testing.assert_array_equal(decode_compressed(png), PICTURE)
    jpeg = decode_compressed(SimpleNamespace(format="", data=packed(".jpg", PICTURE)))
    assert jpeg.shape == PICTURE.shape
    assert np.abs(jpeg.astype(int) - PICTURE).mean() < 3
    grey = decode_compressed(SimpleNamespace(format="mono8; png", data=packed(".png", PICTURE[..., 0])))
    np.testing.assert_array_equal(grey, np.repeat(PICTURE[..., :1], 3, axis=2))


def test_a_jpeg_in_a_buffer_filled_up_with_zeros_is_whole():
    whole = packed(".jpg", PICTURE)
    expected = decode_compressed(SimpleNamespace(format="jpeg", data=whole))
    padded = decode_compressed(SimpleNamespace(format="jpeg", data=whole + bytes(4096)))
    np.testing.assert_array_equal(padded, expected)


KINDS_WITH_AN_END = ["jpeg", "progressive jpeg", "jpeg in intervals", "jpeg with a thumbnail", "png"]


@pytest.mark.parametrize("kind", KINDS_WITH_AN_END)
def test_whatever_follows_the_end_of_a_picture_does_not_matter(kind):
    whole = WHOLE[kind]
    expected = decode_compressed(SimpleNamespace(format="", data=whole))
    followed = decode_compressed(SimpleNamespace(format="", data=whole + bytes(range(1, 255)) * 40))
    np.testing.assert_array_equal(followed, expected)


@pytest.mark.parametrize("kind", KINDS_WITH_AN_END)
def test_a_cut_picture_is_not_made_whole_by_what_follows_it(kind):
    for left in (0.55, 0.8, 0.95):
        cut = WHOLE[kind][: int(left * len(WHOLE[kind]))]
        with pytest.raises(ImageError) as caught:
            decode_compressed(SimpleNamespace(format="", data=cut + b"\x01\x02" * 4000))
        assert caught.value.kind is ImageFault.TRUNCATED


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
        (ImageFault.TRUNCATED, packed(".jpg", PICTURE)[:-200] + bytes(4096)),
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


def unpacked_or_refused(data):
    """The picture, None for one refused with its kind."""
    try:
        picture = decode_compressed(SimpleNamespace(format="x", data=data), max_pixels=1 << 20)
    except ImageError as error:
        assert isinstance(error.kind, ImageFault) and str(error) and "\n" not in str(error)
        return None
    assert picture.ndim == 3 and picture.shape[2] == 3 and picture.dtype == np.uint8
    assert picture.shape[0] * picture.shape[1] <= 1 << 20
    return picture


@pytest.mark.parametrize("kind", WHOLE)
def test_kinds_of_files_that_cameras_send(kind):
    picture = unpacked_or_refused(WHOLE[kind])
    expected = np.repeat(PICTURE[..., :1], 3, axis=2) if "grey" in kind else PICTURE
    np.testing.assert_allclose(picture.astype(int), expected, atol=0 if "png" in kind else 16)


@settings(max_examples=150, deadline=None)
@given(st.sampled_from(sorted(WHOLE)), st.data())
def test_damaged_files_never_do_worse_than_an_image_error(kind, data):
    damaged = bytearray(WHOLE[kind])
    for _ in range(data.draw(st.integers(1, 12))):
        damaged[data.draw(st.integers(0, len(damaged) - 1))] = data.draw(st.integers(0, 255))
    begin, end = sorted(data.draw(st.tuples(*[st.integers(0, len(damaged))] * 2)))
    del damaged[begin : begin + data.draw(st.sampled_from([0, 0, end - begin]))]
    unpacked_or_refused(bytes(damaged))


@settings(max_examples=150, deadline=None)
@given(
    st.sampled_from([b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b""]),
    st.binary(max_size=400),
    st.sampled_from([b"\xff\xd9", b"IEND", b""]),
)
def test_noise_between_the_marks_of_a_file_is_refused(head, noise, tail):
    unpacked_or_refused(head + noise + tail)


@settings(max_examples=60, deadline=None)
@given(st.sampled_from(["jpeg", "png"]), st.integers(0, 2**16 - 1), st.integers(0, 2**16 - 1))
def test_a_file_that_claims_another_size_is_not_trusted(kind, width, height):
    whole = WHOLE[kind]
    if kind == "jpeg":
        claimed = with_jpeg_size(whole, width, height)
    else:
        claimed = whole[:16] + width.to_bytes(4, "big") + height.to_bytes(4, "big") + whole[24:]
    picture = unpacked_or_refused(claimed)
    assert picture is None or picture.shape[:2] == (height, width)


def test_a_file_cut_anywhere_is_refused():
    for kind in ("jpeg", "png"):
        for length in range(0, len(WHOLE[kind]) - 12, 7):
            assert unpacked_or_refused(WHOLE[kind][:length]) is None, (kind, length)
