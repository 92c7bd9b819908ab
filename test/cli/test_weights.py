"""`qdtrack weights`, against a catalogue whose files a server on this machine has."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from file_server import FileServer, cut_after, serving, status
from safetensors.torch import save

from qdtrack_ros import catalogue
from qdtrack_ros.cli import main as cli
from qdtrack_ros.inference import engine as engines
from qdtrack_ros.inference.presets import Preset, load_preset
from qdtrack_ros.inference.types import Engine
from qdtrack_ros.models.checkpoint import save_weights
from qdtrack_ros.models.qdtrack import QDTrack

ROWS = """
weights:
- {{name: tiny, what: a tiny model, preset: {preset}, layout: ours, settings: [{settings}],
   url: "{url}", file: tiny.safetensors, sha256: {sha256}, licence: MIT, score: none, source: "https://example.org/zoo"}}
- {{name: trunk, what: a trunk, layout: torchvision, url: "{url}", file: trunk.pth, size: 3145728, licence: MIT,
   score: "76.1", source: "https://example.org/zoo"}}
- {{name: street, what: for a shipped preset, preset: mot17, layout: any, url: "{url}", file: s.pth, licence: MIT,
   score: none, source: "https://example.org/zoo"}}
- {{name: hand, what: by hand, preset: {preset}, layout: ours, url: "https://drive.example.org/y", manual: true,
   file: hand.safetensors, licence: MIT, score: none, source: "https://example.org/zoo"}}
- {{name: drive, what: by hand, preset: bdd100k, layout: any, url: "https://drive.example.org/x", manual: true,
   file: d.pth, licence: MIT, score: none, source: "https://example.org/zoo"}}
"""
SETTINGS = ("preprocess.channel_order=bgr", "association.init_score=0.1")


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("no_proxy", "*")
    monkeypatch.setenv("QDTRACK_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def server(preset: Path, cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Serves weights of the tiny preset; the catalogue knows them."""
    torch.manual_seed(0)
    path = tmp_path / "made.safetensors"
    save_weights(QDTrack(load_preset(str(preset)).model), path)
    content = path.read_bytes()
    with serving(content) as file:
        digest = hashlib.sha256(content).hexdigest()[:8]
        rows = ROWS.format(preset=preset, url=file.url, sha256=digest, settings=", ".join(map(repr, SETTINGS)))
        (tmp_path / "weights.yaml").write_text(rows)
        monkeypatch.setattr(catalogue, "share_path", lambda relative: tmp_path / "weights.yaml")
        yield file


def test_get_fetches_checks_and_says_how_to_use_it(server: FileServer, cache: Path, capsys, preset: Path) -> None:
    server.faults = [cut_after(5000)]
    assert cli.main(["weights", "get", "tiny"]) == 0
    out = capsys.readouterr().out
    path = cache / "tiny.safetensors"
    assert path.read_bytes() == server.content
    assert "licence: MIT" in out and f"sha256: {hashlib.sha256(server.content).hexdigest()}, as published" in out
    assert out.rstrip().endswith(f"qdtrack track VIDEO -o tracked.mp4 --preset {preset} --weights tiny")
    assert cli.main(["weights", "get", "tiny"]) == 0 and len(server.requests) == 2, "it is there already"


def test_a_fetched_file_is_used_by_its_name_and_never_fetched_unasked(
    server: FileServer, crossing: Path, preset: Path, capsys, tmp_path: Path
) -> None:
    words = ["track", str(crossing), "--preset", str(preset), "--weights", "tiny", "--device", "cpu"]
    words += ["--mot", str(tmp_path / "t.txt"), "--max-frames", "1"]
    assert cli.main(words) == 1
    message = "the weights tiny are not on this machine; get them with `qdtrack weights get tiny`"
    assert message in capsys.readouterr().err
    assert not server.requests
    assert cli.main(["weights", "get", "tiny"]) == 0
    assert cli.main(words) == 0
    assert (tmp_path / "t.txt").exists()
    assert len(server.requests) == 1


def test_a_preset_without_weights_names_those_that_can_be_had(server: FileServer, crossing: Path, capsys) -> None:
    assert cli.main(["track", str(crossing), "--preset", "bdd100k"]) == 1
    message = "preset bdd100k comes without weights; give a file with `weights`, or `qdtrack weights get` one of drive"
    assert message in capsys.readouterr().err


@pytest.fixture
def presets_used(monkeypatch: pytest.MonkeyPatch) -> list[Preset]:
    """Presets of the engines that the commands have built."""
    used, build = [], engines.create_engine

    def create(preset: Preset, *arguments: Any, **options: Any) -> Engine:
        used.append(preset)
        return build(preset, *arguments, **options)

    monkeypatch.setattr(engines, "create_engine", create)
    return used


@pytest.mark.parametrize("command", ["track", "evaluate", "benchmark"])
def test_a_name_brings_preset_and_settings_and_explicit_ones_win(
    server: FileServer, crossing: Path, command: str, presets_used: list[Preset], tmp_path: Path
) -> None:
    assert cli.main(["weights", "get", "tiny"]) == 0
    words = {
        "track": ["track", str(crossing), "--max-frames", "1"],
        "evaluate": ["evaluate", str(crossing), "--max-frames", "1", "--json", str(tmp_path / "figures.json")],
        "benchmark": ["benchmark", "engine", "--repeats", "1", "--size", "96x64"],
    }[command]
    words += ["--weights", "tiny", "--device", "cpu"]
    assert cli.main(words) == 0
    assert cli.main([*words, "--set", "preprocess.channel_order=rgb", "association.init_score=0.4"]) == 0
    first, second = presets_used
    assert first.name == second.name == "tiny"
    assert (first.preprocess.channel_order, first.association.init_score) == ("bgr", 0.1)
    assert (second.preprocess.channel_order, second.association.init_score) == ("rgb", 0.4)
    if command == "evaluate":
        figures = json.loads((tmp_path / "figures.json").read_text())
        assert figures["weights"] == figures["preset"] == "tiny"


def test_a_name_gives_what_the_file_gives_with_the_settings_said(
    server: FileServer, cache: Path, crossing: Path, preset: Path, tmp_path: Path
) -> None:
    assert cli.main(["weights", "get", "tiny"]) == 0

    def tracks(*words: str) -> str:
        start = ["track", str(crossing), "--device", "cpu", "--mot", str(tmp_path / "t.txt")]
        assert cli.main([*start, *words]) == 0
        return (tmp_path / "t.txt").read_text()

    file = ("--preset", str(preset), "--weights", str(cache / "tiny.safetensors"))
    named = tracks("--weights", "tiny")
    assert named and named == tracks(*file, "--set", *SETTINGS)
    assert named != tracks(*file, "--set", SETTINGS[1])


def test_another_preset_than_theirs_is_one_line(server: FileServer, crossing: Path, preset: Path, capsys) -> None:
    own = preset.with_name("own.yaml")
    own.write_text(preset.read_text().replace("embedding_dim: 8", "embedding_dim: 4"))
    assert cli.main(["weights", "get", "tiny"]) == 0
    no_tracker = "the weights trunk track nothing by themselves: they are for a training to start from"
    lines = {
        ("street", "bdd100k"): "the weights street are for preset mot17, not for bdd100k; use preset mot17 with them",
        ("trunk", "mot17"): no_tracker,
        ("trunk", ""): no_tracker,
        ("tiny", str(own)): "is of another model",
        ("tyni", ""): "the weights tyni are neither a file nor a name of `qdtrack weights list`",
    }
    for (weights, name), message in lines.items():
        capsys.readouterr()
        assert cli.main(["track", str(crossing), "--weights", weights, "--preset", name]) == cli.EXIT_FAILED
        err = capsys.readouterr().err
        assert message in err and err.count("\n") == 1


def test_a_fetched_file_that_changed_since_is_refused(server: FileServer, cache: Path, crossing: Path, capsys) -> None:
    assert cli.main(["weights", "get", "tiny"]) == 0
    path = cache / "tiny.safetensors"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1  # a bit of a weight, which nothing else would notice
    path.write_bytes(content)
    expected = hashlib.sha256(server.content).hexdigest()[:8]
    for words in (["track", str(crossing)], ["benchmark", "engine", "--repeats", "1"]):
        capsys.readouterr()
        assert cli.main([*words, "--weights", "tiny", "--device", "cpu"]) == cli.EXIT_FAILED
        err = capsys.readouterr().err
        assert (
            f"weights file {path} is not the published tiny: its sha256 is {hashlib.sha256(content).hexdigest()}" in err
        )
        assert f"expected {expected}...; remove it, then run `qdtrack weights get tiny`" in err and err.count("\n") == 1


def test_a_file_fetched_by_hand_is_opened_and_compared_with_its_preset(
    server: FileServer, cache: Path, preset: Path, capsys
) -> None:
    cache.mkdir()
    path = cache / "hand.safetensors"
    path.write_bytes(server.content)
    assert cli.main(["weights", "get", "hand"]) == 0
    out = capsys.readouterr().out
    assert "layout: qdtrack_ros, fits the preset\n" in out and "none is published to compare it with" in out

    page, text = b"\n<!DOCTYPE html><html><body>Google Drive can't scan this file", b"quota exceeded"
    other = QDTrack(load_preset(str(preset), {"model.embedding_dim": 4}).model).state_dict()
    detector = {name: t for name, t in other.items() if not name.startswith("embedding_head.")}
    for content, reason in (
        (page, "is a web page"),
        (text, "is damaged or not safetensors"),
        (save(other), "is of another model"),
        (save(detector), "missing: embedding_head."),
        (save({"conv1.weight": torch.zeros(1)}), "ImageNet ResNet"),
    ):
        path.write_bytes(content)
        assert cli.main(["weights", "get", "hand"]) == cli.EXIT_FAILED
        captured = capsys.readouterr()
        first = captured.err.splitlines()[-1] if "Listed" not in captured.err else captured.err
        assert "error: this is not hand; remove the file, then get it again from https://drive.example.org/y: " in first
        assert str(path) in first and reason in first and "use it" not in captured.out
        assert path.read_bytes() == content, "it is the user's: nothing removes it unasked"


def test_get_to_a_folder(server: FileServer, cache: Path, tmp_path: Path, capsys) -> None:
    assert cli.main(["weights", "get", "trunk", "--to", str(tmp_path / "models")]) == 1
    assert f"the server has {len(server.content)} bytes, expected 3145728" in capsys.readouterr().err
    assert cli.main(["weights", "get", "tiny", "--to", str(tmp_path / "models")]) == 0
    path = tmp_path / "models" / "tiny.safetensors"
    assert path.exists() and not cache.exists()
    assert capsys.readouterr().out.rstrip().endswith(f"--weights {path} --set {' '.join(SETTINGS)}")


def test_list_has_a_row_for_each_and_what_is_here(server: FileServer, cache: Path, capsys) -> None:
    cache.mkdir()
    (cache / "trunk.pth").write_bytes(bytes(2 << 20))
    assert cli.main(["weights", "list"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["name", "preset", "size", "here", "score"]
    rows = {line.split()[0]: line.split()[1:] for line in lines[1:20:4]}
    assert rows["tiny"][1:] == ["?", "no", "none"]
    assert rows["trunk"] == ["-", "2", "MiB", "yes", "76.1"]
    assert rows["drive"] == ["bdd100k", "?", "by", "hand", "none"]
    assert "MIT" in lines[2] and lines[3].strip().startswith(f"{server.url}; sha256 ") and str(cache) in lines[-1]
    assert lines[4].strip() == "https://example.org/zoo"
    assert not server.requests


def test_the_shipped_list(cache: Path, capsys) -> None:
    assert cli.main(["weights", "list"]) == 0
    out = capsys.readouterr().out
    assert all(name in out for name in ("bdd100k-r50", "mot17-r50", "tao-r101", "HOTA 57.1", "CC BY-NC-SA"))


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["get", "nothing"], "no public weights 'nothing'; known: tiny, trunk, street, hand, drive"),
        (["get", "drive"], "open it in a browser"),
    ],
)
def test_what_cannot_be_had_is_one_line(server: FileServer, words: list[str], message: str, capsys) -> None:
    assert cli.main(["weights", *words]) == cli.EXIT_FAILED
    err = capsys.readouterr().err.splitlines()
    assert len([line for line in err if line.startswith("qdtrack weights: error:")]) == 1 and message in err[-1]


def test_a_missing_file_names_the_page_to_look_at(server: FileServer, cache: Path, capsys) -> None:
    server.faults = [status(404)]
    assert cli.main(["weights", "get", "tiny"]) == cli.EXIT_FAILED
    err = capsys.readouterr().err
    assert "404" in err and "(published at https://example.org/zoo)" in err and list(cache.iterdir()) == []


@pytest.mark.parametrize("words", [[], ["fly"], ["get"], ["get", "tiny", "extra"]])
def test_wrong_usage(words: list[str]) -> None:
    with pytest.raises(SystemExit) as end:
        cli.main(["weights", *words])
    assert end.value.code == cli.EXIT_USAGE


def test_an_interrupted_download_ends_with_130(server: FileServer, cache: Path, monkeypatch, capsys) -> None:
    def interrupt(*arguments: object, **options: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(catalogue, "download", interrupt)
    assert cli.main(["weights", "get", "tiny"]) == cli.EXIT_INTERRUPTED
