"""`qdtrack weights`: the public model files, and how to get one."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from qdtrack_ros.catalogue import WeightsEntry

_EPILOG = """Examples:
  qdtrack weights list
  qdtrack weights get mot17-r50
  qdtrack track street.mp4 -o tracked.mp4 --weights mot17-r50

Files lie in $QDTRACK_CACHE, else in $XDG_CACHE_HOME/qdtrack, else in ~/.cache/qdtrack. A broken download goes on where
it stopped when the command is run again. Addresses are as published by their owners.
exit codes: 0 done; 1 failed, with one line that says what to do; 2 wrong usage; 130 interrupted"""
_MIB = 1 << 20


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's arguments."""
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.epilog = _EPILOG
    actions = parser.add_subparsers(title="actions", dest="action", metavar="ACTION", required=True)
    actions.add_parser("list", help="what there is, and what of it is on this machine")
    get = actions.add_parser("get", help="fetch a file, or check the one that is there")
    get.add_argument("name", metavar="NAME", help="as `qdtrack weights list` gives it")
    get.add_argument("--to", type=Path, metavar="FOLDER", help="where to (default: the cache folder)")


def run(arguments: argparse.Namespace) -> int:
    """List, or fetch."""
    from qdtrack_ros.catalogue import find_weights, load_catalogue

    if arguments.action == "list":
        print(table(load_catalogue()))
        return 0
    return get(find_weights(arguments.name), arguments.to)


def get(entry: WeightsEntry, folder: Path | None) -> int:
    """Fetch a file with a progress bar, and say how to use it."""
    from tqdm import tqdm

    from qdtrack_ros.catalogue import fetch_weights

    print(f"{entry.name}: {entry.what}")
    print(f"licence: {entry.licence}")
    with tqdm(unit="B", unit_scale=True, unit_divisor=1024, desc=entry.file[:40], disable=None) as bar:

        def show(received: int, total: int | None) -> None:
            bar.total = total
            bar.update(received - bar.n)

        path, digest = fetch_weights(entry, folder, show)
    if entry.sha256:
        print(f"sha256: {digest}, as published ({entry.sha256[:8]}...)")
    else:
        print(f"layout: {checked_layout(entry, path)}{', fits the preset' if entry.preset else ''}")
        print(f"sha256: {digest}, none is published to compare it with")
    for line in (entry.note, f"file: {path}", usage(entry, path)):
        if line:
            print(line)
    return 0


def checked_layout(entry: WeightsEntry, path: Path) -> str:
    """Layout of a file that no published hash vouches for, after a look at whether it is what it should be.

    Raises:
        CheckpointError: it is no weights file, or of another model.
    """
    from qdtrack_ros.inference.presets import load_preset
    from qdtrack_ros.models.checkpoint import convert_weights
    from qdtrack_ros.models.conversion import OWN, opened
    from qdtrack_ros.models.qdtrack import QDTrack
    from qdtrack_ros.models.weights_file import CheckpointError, read_weights_file

    try:
        file = read_weights_file(path)
        if entry.preset:
            preset = load_preset(entry.preset, weights=entry.name)
            conversion = convert_weights(file, QDTrack(preset.model), preset.labels)
            if conversion.untrained:
                parts = ", ".join(sorted(conversion.untrained))
                raise CheckpointError(f"weights file {path} ({conversion.layout.name}) has no {parts}")
            return conversion.layout.name
        layout, _ = opened(file.tensors)
        if layout is OWN:
            raise CheckpointError(f"weights file {path} is of no layout that is known; expected {entry.layout}")
        return layout.name
    except CheckpointError as error:
        raise CheckpointError(
            f"this is not {entry.name}; remove the file, then get it again from {entry.url}: {error}"
        ) from error


def usage(entry: WeightsEntry, path: Path) -> str:
    """The line that uses a fetched file."""
    from qdtrack_ros.catalogue import cached

    if not entry.preset:
        return f"in a training's configuration: backbone_weights: {path.absolute()}"
    by_name = path == cached(entry)
    settings = "" if by_name or not entry.settings else f" --set {' '.join(entry.settings)}"
    weights = entry.name if by_name else path
    return f"use it: qdtrack track VIDEO -o tracked.mp4 --preset {entry.preset} --weights {weights}{settings}"


def table(entries: Sequence[WeightsEntry]) -> str:
    """What there is, as text; below each entry its licence, address, hash and source."""
    from qdtrack_ros.catalogue import cache_folder, cached

    rows = [("name", "preset", "size", "here", "score")]
    for entry in entries:
        path = cached(entry)
        size = path.stat().st_size if path else entry.size
        here = "yes" if path else "by hand" if entry.manual else "no"
        rows.append((entry.name, entry.preset or "-", f"{size / _MIB:.0f} MiB" if size else "?", here, entry.score))
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]) - 1)]
    texts = ["  ".join([*map(str.ljust, row, widths), row[-1]]) for row in rows]
    lines = texts[:1]
    for entry, text in zip(entries, texts[1:], strict=True):
        known = f"; sha256 {entry.sha256}" if entry.sha256 else ""
        lines += [text, f"    {entry.what}; {entry.licence}", f"    {entry.url}{known}", f"    {entry.source}"]
    lines += ["", f"fetched files lie in {cache_folder()}; `qdtrack weights get NAME` fetches one"]
    return "\n".join(lines)
