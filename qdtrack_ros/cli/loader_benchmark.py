"""How fast the pairs of a training are prepared: `qdtrack benchmark loader CONFIG --data FOLDER`."""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import Any

from qdtrack_ros.cli.options import add_set_option, natural, overrides
from qdtrack_ros.cli.timing import summary

PREFETCHED = 3  # batches that a worker is ahead when the measurement begins


def add_loader_arguments(parser: argparse.ArgumentParser) -> None:
    """The measurement's arguments, apart from those that all have."""
    parser.add_argument("config", type=Path, metavar="CONFIG", help="YAML file of a training")
    parser.add_argument("--data", type=Path, required=True, metavar="FOLDER", help="where the sources' paths start")
    workers_help = "processes that prepare pairs, measured one after the other (default: 0 1 2)"
    parser.add_argument("--workers", type=natural, nargs="+", default=[0, 1, 2], metavar="N", help=workers_help)
    add_set_option(parser, "of the configuration, e.g. batch_size=8")


def loader_figures(arguments: argparse.Namespace) -> list[dict[str, Any]]:
    """Time for a pair by the number of workers, from the file to the batch in memory as a training takes it.

    ``pair`` is the mean, which is what a training waits for; the others are of the batches, each divided by its pairs:
    with workers some are there already and others are waited for.
    """
    import torch

    from qdtrack_ros.inference.presets import load_preset
    from qdtrack_ros.training.config import load_training_config
    from qdtrack_ros.training.data_module import pair_sampler
    from qdtrack_ros.training.stream import PairStream, loader

    config = load_training_config(arguments.config, overrides(arguments.set))
    preset = load_preset(config.preset)
    sampler = pair_sampler(config.with_labels(preset.labels), preset, arguments.data)
    results = []
    for workers in arguments.workers:
        batches = iter(loader(PairStream(sampler, config.batch_size), workers, pin=torch.cuda.is_available()))
        for _ in range(1 + PREFETCHED * workers):  # what was prepared while nobody measured
            next(batches)
        taken = []
        for _ in range(arguments.repeats):
            began = time.perf_counter()
            next(batches)
            taken.append(1e3 * (time.perf_counter() - began) / config.batch_size)
        del batches  # ends its workers
        case = {"config": arguments.config.stem, "workers": workers, "batch": config.batch_size}
        pair = sum(taken) / len(taken)
        times = {"pair": pair, **summary(taken)}
        results.append({"case": case, "milliseconds": times, "figures": {"pairs_per_second": 1e3 / pair}})
    return results
