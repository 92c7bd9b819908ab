"""Text that came over the network, as log and diagnostics may show it."""

from __future__ import annotations


def harmless(text: str, longest: int) -> str:
    """The text in one line of at most so many characters, with a question mark for each that would steer a terminal."""
    shown = " ".join(text.split())[:longest]
    return "".join(letter if letter.isprintable() else "?" for letter in shown)
