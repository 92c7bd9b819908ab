"""`qdtrack weights`, against a catalogue whose files a server on this machine has."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
import torch
from file_server import FileServer, cut_after, serving, status

from qdtrack_ros import catalogue
from qdtrack_ros.cli import main as cli
from qdtrack_ros.inference.presets import load_preset
from qdtrack_ros.models.checkpoint import save_weights
from qdtrack_ros.models.qdtrack import QDTrack

ROWS = """
weights:
- {{name: tiny, what: a tiny model, preset: {preset}, settings: ["association.init_score=0.1"], layout: ours,
   url: "{url}", file: tiny.safetensors, sha256: {sha256}, licence: MIT, score: none, source: "https://example.org/zoo"}}
- {{name: trunk, what: a trunk, layout: torchvision, url: "{url}", file: trunk.pth, size: 3145728, licence: MIT,
   score: "76.1", source: "https://example.org/zoo"}}
- {{name: drive, what: by hand, preset: bdd100k, layout: any, url: "https://drive.example.org/x", manual: true,
   file: d.pth, licence: MIT, score: none, source: "https://example.org/zoo"}}
"""


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
        rows = ROWS.format(preset=preset, url=file.url, sha256=hashlib.sha256(content).hexdigest()[:8])
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
    usage = f"qdtrack track VIDEO -o tracked.mp4 --preset {preset} --weights {path} --set association.init_score=0.1"
    assert out.rstrip().endswith(usage)
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


def test_get_to_a_folder(server: FileServer, cache: Path, tmp_path: Path, capsys) -> None:
    assert cli.main(["weights", "get", "trunk", "--to", str(tmp_path / "models")]) == 1
    assert f"the server has {len(server.content)} bytes, expected 3145728" in capsys.readouterr().err
    assert cli.main(["weights", "get", "tiny", "--to", str(tmp_path / "models")]) == 0
    assert (tmp_path / "models" / "tiny.safetensors").exists() and not cache.exists()


def test_list_has_a_row_for_each_and_what_is_here(server: FileServer, cache: Path, capsys) -> None:
    cache.mkdir()
    (cache / "trunk.pth").write_bytes(bytes(2 << 20))
    assert cli.main(["weights", "list"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["name", "preset", "size", "here", "score"]
    rows = {line.split()[0]: line.split()[1:] for line in lines[1:10:3]}
    assert rows["tiny"][1:] == ["?", "no", "none"]
    assert rows["trunk"] == ["-", "2", "MiB", "yes", "76.1"]
    assert rows["drive"] == ["bdd100k", "?", "by", "hand", "none"]
    assert "MIT" in lines[2] and lines[3].strip() == "https://example.org/zoo" and str(cache) in lines[-1]
    assert not server.requests


def test_the_shipped_list(cache: Path, capsys) -> None:
    assert cli.main(["weights", "list"]) == 0
    out = capsys.readouterr().out
    assert all(name in out for name in ("bdd100k-r50", "mot17-r50", "tao-r101", "HOTA 57.1", "CC BY-NC-SA"))


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["get", "nothing"], "no public weights 'nothing'; known: tiny, trunk, drive"),
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
