"""`qdtrack train`: from a configuration to weights."""

from __future__ import annotations

import argparse
from pathlib import Path

from qdtrack_ros.cli.options import add_set_option, overrides


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's arguments."""
    parser.add_argument("config", type=Path, metavar="CONFIG", help="YAML file, e.g. config/training/pedestrian.yaml")
    parser.add_argument("--data", type=Path, required=True, metavar="FOLDER", help="where the sources' paths start")
    parser.add_argument("--output", type=Path, metavar="FOLDER", help="for checkpoints, weights (default: runs/NAME)")
    parser.add_argument(
        "--resume", type=Path, metavar="CKPT", help="go on from this checkpoint, e.g. runs/NAME/last.ckpt"
    )
    add_set_option(parser, "of the configuration, e.g. steps=500 optimizer.learning_rate=0.001")


def run(arguments: argparse.Namespace) -> int:
    """Train a model."""
    from qdtrack_ros.training.config import load_training_config
    from qdtrack_ros.training.train import train

    for path in (arguments.data, arguments.resume):
        if path is not None and not path.exists():
            raise FileNotFoundError(f"{path}: no such file or folder")
    config = load_training_config(arguments.config, overrides(arguments.set))
    output = arguments.output or Path("runs") / arguments.config.stem
    weights = train(config, arguments.data, output, arguments.resume)
    print(f"weights: {weights}")
    print(f"try them: qdtrack track VIDEO -o tracked.mp4 --preset {config.preset} --weights {weights}")
    return 0
