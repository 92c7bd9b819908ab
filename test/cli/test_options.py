from __future__ import annotations

import argparse

import pytest

from qdtrack_ros.cli.options import overrides, positive, positive_number, setting, size
from qdtrack_ros.cli.play import remapping


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("association.match_score=0.6", ("association.match_score", 0.6)),
        ("preprocess.image_scale=[320, 240]", ("preprocess.image_scale", [320, 240])),
        ("association.match_across_classes=true", ("association.match_across_classes", True)),
        ("weights=a=b", ("weights", "a=b")),
    ],
)
def test_setting_reads_yaml_values(text: str, expected: tuple[str, object]) -> None:
    assert setting(text) == expected


@pytest.mark.parametrize("text", ["match_score", "=1", "a=[1"])
def test_setting_refuses(text: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError):
        setting(text)


def test_the_last_setting_wins() -> None:
    assert overrides([("a", 1), ("b", 2), ("a", 3)]) == {"a": 3, "b": 2}


def test_numbers() -> None:
    assert positive("3") == 3 and positive_number("0.5") == 0.5
    for call, text in ((positive, "0"), (positive_number, "-1"), (positive_number, "inf")):
        with pytest.raises(argparse.ArgumentTypeError):
            call(text)


def test_size_and_remapping() -> None:
    assert size("640x480") == (640, 480)
    assert remapping("/a:=/b/c") == ("/a", "/b/c")
    for call, text in ((size, "640"), (size, "0x4"), (remapping, "/a=/b"), (remapping, "/a:=")):
        with pytest.raises(argparse.ArgumentTypeError):
            call(text)
