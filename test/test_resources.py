"""Files that come with the package: found in a source tree and in every kind of installation."""

from __future__ import annotations

import pytest

import qdtrack_ros.resources
from qdtrack_ros.resources import share_path


def test_source_tree():
    path = share_path("config/presets/pedestrian.yaml")
    assert path.is_file() and path.is_absolute()


@pytest.mark.parametrize("packages", ["lib/python3.11/site-packages", "local/lib/python3.12/dist-packages"])
def test_installation(tmp_path, monkeypatch, packages):
    package = tmp_path / packages / "qdtrack_ros"
    shipped = tmp_path / "share" / "qdtrack_ros" / "config" / "a.yaml"
    for folder in (package, shipped.parent):
        folder.mkdir(parents=True)
    shipped.write_text("")
    monkeypatch.setattr(qdtrack_ros.resources, "__file__", str(package / "resources.py"))
    assert share_path("config/a.yaml") == shipped
    assert share_path("config") == shipped.parent
    with pytest.raises(FileNotFoundError) as error:
        share_path("config/b.yaml")
    assert "config/b.yaml does not come with this installation" in str(error.value)
    assert str(shipped.parent / "b.yaml") in str(error.value)


def test_an_installation_by_links_finds_the_prefix_it_is_linked_into(tmp_path, monkeypatch):
    source, prefix = tmp_path / "src" / "qdtrack_ros", tmp_path / "install"
    linked = prefix / "lib" / "python3" / "site-packages" / "qdtrack_ros"
    shipped = prefix / "share" / "qdtrack_ros" / "made_by_build.txt"
    for folder in (source, linked, shipped.parent):
        folder.mkdir(parents=True)
    (source / "resources.py").write_text("")
    (linked / "resources.py").symlink_to(source / "resources.py")
    shipped.write_text("")
    (tmp_path / "src" / "own.txt").write_text("")
    monkeypatch.setattr(qdtrack_ros.resources, "__file__", str(linked / "resources.py"))
    assert share_path("made_by_build.txt") == shipped
    assert share_path("own.txt") == tmp_path / "src" / "own.txt"
