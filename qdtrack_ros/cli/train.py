"""`qdtrack train`: from a configuration to weights, or to a report on its data."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from qdtrack_ros.cli.options import add_set_option, overrides

if TYPE_CHECKING:
    from qdtrack_ros.training.config import TrainingConfig


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's arguments."""
    parser.add_argument("config", type=Path, metavar="CONFIG", help="YAML file, e.g. config/training/pedestrian.yaml")
    parser.add_argument("--data", type=Path, required=True, metavar="FOLDER", help="where the sources' paths start")
    parser.add_argument("--output", type=Path, metavar="FOLDER", help="for checkpoints, weights (default: runs/NAME)")
    parser.add_argument(
        "--resume", type=Path, metavar="CKPT", help="go on from this checkpoint, e.g. runs/NAME/last.ckpt"
    )
    check_help = "train nothing: read all sources and say what is wrong with them; exit code 1 when something is"
    parser.add_argument("--check", action="store_true", help=check_help)
    pictures_help = "with --check: decode every picture, not only some of each source"
    parser.add_argument("--all-pictures", action="store_true", help=pictures_help)
    add_set_option(parser, "of the configuration, e.g. steps=500 optimizer.learning_rate=0.001")


def run(arguments: argparse.Namespace) -> int:
    """Train a model, or check what it would be trained on."""
    from qdtrack_ros.training.config import load_training_config
    from qdtrack_ros.training.processes import launch
    from qdtrack_ros.training.train import train

    for path in (arguments.data, arguments.resume):
        if path is not None and not path.exists():
            raise FileNotFoundError(f"{path}: no such file or folder")
    config = load_training_config(arguments.config, overrides(arguments.set))
    if arguments.check:
        return check(config, arguments.data, arguments.all_pictures)
    output = arguments.output or Path("runs") / arguments.config.stem
    weights = train(config, arguments.data, output, arguments.resume)
    if launch().rank:
        return 0  # the first process speaks for all
    print(f"weights: {weights}")
    print(f"try them: qdtrack track VIDEO -o tracked.mp4 --preset {config.preset} --weights {weights}")
    return 0


def check(config: TrainingConfig, data: Path, all_pictures: bool) -> int:
    """Report on a training's sources and weights; 0 when it can begin."""
    from qdtrack_ros.training.check import check_training, table

    report = check_training(config, data, all_pictures)
    print(table(report))
    return 0 if report.ok else 1
