"""The catalogue of public weights: complete, consistent, and of use to whoever looks for weights."""

from __future__ import annotations

import dataclasses
import hashlib
import re
import subprocess
import sys

import pytest
from file_server import serving

from qdtrack_ros.catalogue import (
    WeightsEntry,
    cache_folder,
    cached,
    fetch_weights,
    find_weights,
    load_catalogue,
    public_weights,
)
from qdtrack_ros.configuration import ConfigurationError
from qdtrack_ros.download import DownloadError
from qdtrack_ros.inference.presets import load_preset, preset_names

ENTRIES = load_catalogue()
FACTS = {"what": "w", "layout": "l", "licence": "MIT", "score": "s", "source": "https://example.org"}


def entry(url: str = "https://example.org/a.pth", **values) -> WeightsEntry:
    return WeightsEntry(**{"name": "a", "file": "a.pth", "url": url, **FACTS, **values})


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("no_proxy", "*")
    monkeypatch.setenv("QDTRACK_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.mark.parametrize("one", ENTRIES, ids=lambda one: one.name)
def test_an_entry_says_all_that_one_must_know(one):
    for value in (one.what, one.layout, one.licence, one.score):
        assert value.strip()
    assert one.source.startswith("https://") and one.url.startswith("https://")
    assert not one.preset or one.preset in preset_names()
    if one.preset:
        preset = load_preset(None, weights=one.name)
        assert (preset.name, preset.weights) == (one.preset, one.name)
        assert load_preset(one.preset, one.overrides()) == dataclasses.replace(preset, weights="")
    if one.manual:
        assert one.url.startswith("https://drive.google.com/file/d/")
    else:
        assert one.url.endswith(f"/{one.file}")


@pytest.mark.parametrize("one", [one for one in ENTRIES if one.sha256], ids=lambda one: one.name)
def test_a_hash_agrees_with_the_file_s_name(one):
    found = re.search(r"[-_]([0-9a-f]{6,8})\.pth?$", one.file)
    assert found and one.sha256.startswith(found.group(1))


def test_every_preset_of_the_paper_but_waymo_has_public_weights():
    assert {one.preset for one in ENTRIES} == {"bdd100k", "mot17", "tao", ""}


def test_a_file_comes_before_a_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert public_weights("mot17-r50").preset == "mot17"
    (tmp_path / "mot17-r50").touch()
    for text in ("mot17-r50", "./mot17-r50", "somewhere/mot17-r50", "mot17", "", None):
        assert public_weights(text) is None


def test_vis4d_s_model_with_augmentations_gets_the_pictures_it_was_trained_on():
    plain, preset = load_preset("bdd100k"), load_preset(None, weights="bdd100k-r50-augs")
    changed = {"channel_order": "bgr", "image_scale": (1280, 720)}
    assert preset.preprocess == dataclasses.replace(plain.preprocess, **changed)


def test_names_are_found_or_listed():
    assert find_weights("mot17-r50").sha256 == "76f295ef"
    with pytest.raises(ConfigurationError, match=r"no public weights 'mot17'; known: bdd100k-r50, .*imagenet-resnet50"):
        find_weights("mot17")


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"file": "../../.bashrc"}, r"file is '\.\./\.\./\.bashrc'; expected a plain name"),
        ({"file": ".hidden"}, "plain name"),
        ({"file": "a/b.pth"}, "plain name"),
        ({"name": "a b"}, "plain name"),
        ({"url": "file:///etc/passwd"}, "expected https://"),
        ({"sha256": "xyz"}, "hexadecimal"),
        ({"size": -1}, "size is -1"),
        ({"settings": ("preprocess.channel_order",)}, "'preprocess.channel_order' is not of the form key=value"),
    ],
)
def test_an_entry_that_would_do_harm_is_refused(values, message):
    with pytest.raises(ValueError, match=message):
        entry(**values)


def test_a_catalogue_with_two_of_a_name_is_refused(tmp_path):
    row = "name: a, what: w, layout: l, licence: m, score: s, source: t, url: 'https://e.org/'"
    (tmp_path / "weights.yaml").write_text(f"weights: [{{{row}, file: a.pth}}, {{{row}, file: b.pth}}]")
    with pytest.raises(ConfigurationError, match="several entries have the name a"):
        load_catalogue(tmp_path / "weights.yaml")


def test_the_list_needs_no_network_library():
    code = (
        "import sys; from qdtrack_ros.cli.main import main; main(['weights', 'list'])\n"
        "print('LOADED', [name for name in ('torch', 'numpy', 'cv2') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "mot17-r50" in done.stdout and "LOADED []" in done.stdout


def test_where_the_cache_is(monkeypatch, tmp_path):
    assert cache_folder() == tmp_path / "cache"
    monkeypatch.delenv("QDTRACK_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert cache_folder() == tmp_path / "xdg" / "qdtrack"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert cache_folder() == tmp_path / "home" / ".cache" / "qdtrack"


def test_fetching_fills_the_cache_or_a_folder(cache, tmp_path):
    digest = hashlib.sha256(b"weights").hexdigest()
    with serving(b"weights") as server:
        one = entry(server.url, sha256=digest[:8], size=7)
        assert cached(one) is None
        assert fetch_weights(one) == (cache / "a.pth", digest)
        assert cached(one) == cache / "a.pth"
        assert fetch_weights(one, tmp_path / "models") == (tmp_path / "models" / "a.pth", digest)
        with pytest.raises(DownloadError, match=r"removed.*\(published at https://example\.org\)"):
            fetch_weights(entry(server.url, sha256="0" * 8), tmp_path / "other")


def test_a_file_that_a_person_must_fetch_is_explained_then_checked(cache):
    one = entry(manual=True, sha256=hashlib.sha256(b"weights").hexdigest()[:8])
    with pytest.raises(DownloadError, match=r"in a browser, save the file as .*cache/a\.pth, then run") as error:
        fetch_weights(one)
    assert one.url in str(error.value) and not cache.exists()
    cache.mkdir()
    (cache / "a.pth").write_bytes(b"weights")
    assert fetch_weights(one)[0] == cache / "a.pth"
    (cache / "a.pth").write_bytes(b"<html>")
    with pytest.raises(DownloadError, match="not the published file"):
        fetch_weights(one)
