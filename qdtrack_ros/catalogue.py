"""The public model files by name (``config/weights.yaml``), and the folder that fetched ones lie in."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from qdtrack_ros.configuration import ConfigurationError, build, load_yaml, setting
from qdtrack_ros.download import DownloadError, DownloadOptions, download
from qdtrack_ros.resources import share_path

CATALOGUE = "config/weights.yaml"
_PLAIN_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]*")


@dataclass(frozen=True)
class WeightsEntry:
    """One public model file.

    Attributes:
        name: what it is called here.
        what: what it is, one line.
        preset: preset that it is for; empty for the beginnings of a training.
        settings: settings of the preset that it was made with and the preset has not, as for ``--set``.
        layout: whose names its tensors have.
        url: address, as published on the page ``source``.
        manual: the host wants a person at a browser; the file is put in its place by hand.
        file: name of the file.
        size: bytes, 0 where the publisher does not say.
        sha256: hash in hexadecimal, or the beginning of it that the file's name tells; empty where none is published.
        licence: of the file, and of the data that it was trained on.
        score: what the publisher measured with it.
        source: page that has the address and the score.
        note: what else one should know; may be empty.
    """

    name: str
    what: str
    layout: str
    url: str
    file: str
    licence: str
    score: str
    source: str
    preset: str = ""
    settings: tuple[str, ...] = ()
    manual: bool = False
    size: int = 0
    sha256: str = ""
    note: str = ""

    def __post_init__(self) -> None:
        for key in ("name", "file"):
            if not _PLAIN_NAME.fullmatch(getattr(self, key)):
                raise ValueError(f"{key} is {getattr(self, key)!r}; expected a plain name without folders")
        if not self.url.startswith(("https://", "http://")):
            raise ValueError(f"url is {self.url!r}; expected https://")
        if not re.fullmatch(r"(?:[0-9a-f]{6,64})?", self.sha256):
            raise ValueError(f"sha256 is {self.sha256!r}; expected 6 to 64 hexadecimal digits")
        if self.size < 0:
            raise ValueError(f"size is {self.size}; expected bytes, or 0 for unknown")
        self.overrides()

    def overrides(self) -> dict[str, Any]:
        """The settings by dotted key, to lay over the preset."""
        return dict(setting(text) for text in self.settings)


@dataclass(frozen=True)
class _Catalogue:
    weights: tuple[WeightsEntry, ...]

    def __post_init__(self) -> None:
        for key in ("name", "file"):
            values = [getattr(entry, key) for entry in self.weights]
            doubled = sorted({value for value in values if values.count(value) > 1})
            if doubled:
                raise ValueError(f"several entries have the {key} {', '.join(doubled)}")


def load_catalogue(path: Path | None = None) -> tuple[WeightsEntry, ...]:
    """Read the catalogue, by default the package's own.

    Raises:
        ConfigurationError: an unknown or missing key, or a value that is not allowed.
        FileNotFoundError: the installation lacks the file.
    """
    return build(_Catalogue, load_yaml(path or share_path(CATALOGUE)), "the catalogue of weights").weights


def find_weights(name: str) -> WeightsEntry:
    """An entry by its name.

    Raises:
        ConfigurationError: there is none of that name.
    """
    entries = load_catalogue()
    entry = next((entry for entry in entries if entry.name == name), None)
    if entry is None:
        known = ", ".join(entry.name for entry in entries)
        raise ConfigurationError(f"there are no public weights {name!r}; known: {known}")
    return entry


def public_weights(weights: str | Path | None) -> WeightsEntry | None:
    """The entry that a user means by a name; None where the text is the path of a file, empty, or no name of ours."""
    text = str(weights or "")
    if not _PLAIN_NAME.fullmatch(text) or Path(text).is_file():
        return None
    return next((entry for entry in load_catalogue() if entry.name == text), None)


def cache_folder() -> Path:
    """Where fetched files lie: ``$QDTRACK_CACHE``, ``$XDG_CACHE_HOME/qdtrack`` or ``~/.cache/qdtrack``."""
    if own := os.environ.get("QDTRACK_CACHE"):
        return Path(own).expanduser()
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "qdtrack"


def cached(entry: WeightsEntry) -> Path | None:
    """The file of an entry in the cache folder; None where it was not fetched yet."""
    path = cache_folder() / entry.file
    return path if path.is_file() else None


def fetch_weights(
    entry: WeightsEntry,
    folder: Path | None = None,
    progress: Callable[[int, int | None], None] | None = None,
    options: DownloadOptions | None = None,
) -> tuple[Path, str]:
    """Fetch a file, or check the one that is there.

    Args:
        entry: what to fetch.
        folder: where to; None for the cache folder.
        progress: told (bytes so far, bytes in all or None) now and then.
        options: see :class:`DownloadOptions`.

    Returns:
        The file and its sha256.

    Raises:
        DownloadError: it cannot be had; see :func:`qdtrack_ros.download.download`.
    """
    target = (folder or cache_folder()) / entry.file
    if entry.manual and not target.exists():
        raise DownloadError(
            f"{entry.url} asks a person to confirm: open it in a browser, save the file as {target}, "
            f"then run `qdtrack weights get {entry.name}` again to have it checked"
        )
    try:
        return target, download(entry.url, target, entry.sha256, entry.size, progress, options)
    except DownloadError as error:
        by_hand = f"or fetch {entry.url} on another machine and save it as {target}"
        raise DownloadError(f"{error}; {by_hand} (published at {entry.source})") from error
