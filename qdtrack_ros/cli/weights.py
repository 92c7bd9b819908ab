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
  qdtrack track street.mp4 -o tracked.mp4 --preset mot17 --weights mot17-r50

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
    published = f"as published ({entry.sha256[:8]}...)" if entry.sha256 else "none is published to compare it with"
    print(f"sha256: {digest}, {published}")
    for line in (entry.note, f"file: {path}", usage(entry, path)):
        if line:
            print(line)
    return 0


def usage(entry: WeightsEntry, path: Path) -> str:
    """The line that uses a fetched file."""
    if not entry.preset:
        return f"in a training's configuration: backbone_weights: {path.absolute()}"
    settings = f" --set {' '.join(entry.settings)}" if entry.settings else ""
    return f"use it: qdtrack track VIDEO -o tracked.mp4 --preset {entry.preset} --weights {path}{settings}"


def table(entries: Sequence[WeightsEntry]) -> str:
    """What there is, as text; a second line of each entry has its licence and its source."""
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
        lines += [text, f"    {entry.what}; {entry.licence}", f"    {entry.source}"]
    lines += ["", f"fetched files lie in {cache_folder()}; `qdtrack weights get NAME` fetches one"]
    return "\n".join(lines)
