"""`qdtrack submit`: tracks of a test set, which has no public ground truth, in the file that its server takes."""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from qdtrack_ros.cli.evaluate import add_parallel_options, model_of
from qdtrack_ros.cli.options import add_model_options, overrides
from qdtrack_ros.files import check_writable

SERVER_NAMES = ("mot", "bdd100k", "tao", "waymo")

_EPILOG = """Examples:
  qdtrack submit mot MOT17/test/ -o mot17.zip --preset mot17 --weights mot17.safetensors
  qdtrack submit bdd100k images/track/test/ -o bdd100k.zip --weights bdd100k-r50 --jobs 2
  qdtrack submit tao TAO/frames/ --annotations test_without_annotations.json --categories test_categories.json \\
                 -o tao.json --weights tao-r101
  qdtrack submit waymo waymo/testing/ -o waymo.bin --preset waymo --weights waymo.safetensors

SOURCE: mot: folders of sequences (seqinfo.ini), or folders of such folders. bdd100k: a folder with a folder of pictures
for each video. tao: the folder that file_name starts from. waymo: Perception v2, a folder with camera_image. Ground
truth that is there is not looked at. What each server takes: docs/evaluation.md.
exit codes: 0 done; 1 failed, with one line that says what to do; 2 wrong usage; 130 interrupted"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's arguments."""
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.epilog = _EPILOG
    parser.add_argument("server", choices=SERVER_NAMES, help="whose file is written")
    parser.add_argument("sources", nargs="+", type=Path, metavar="SOURCE", help="the pictures of the test set")
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="FILE", help="the file to be uploaded")
    annotations_help = "tao: names and numbers of its videos and pictures, e.g. test_without_annotations.json"
    parser.add_argument("--annotations", type=Path, metavar="FILE", help=annotations_help)
    categories_help = "tao: numbers of its categories, where --annotations lacks them, e.g. test_categories.json"
    parser.add_argument("--categories", type=Path, metavar="FILE", help=categories_help)
    names_help = "take the sequences with such names only"
    parser.add_argument("--sequences", default="*", metavar="PATTERN", help=names_help)
    add_parallel_options(parser)
    add_model_options(parser)


def run(arguments: argparse.Namespace) -> int:
    """Track a test set."""
    from qdtrack_ros.cli.main import EXIT_FAILED, EXIT_INTERRUPTED, EXIT_OK
    from qdtrack_ros.cli.record import gather, label_indices
    from qdtrack_ros.cli.servers import SERVERS, Listing, TrackedVideo, Unlabelled, check_listing, open_videos
    from qdtrack_ros.inference.presets import load_preset

    check_writable(arguments.output)
    server = SERVERS[arguments.server]
    listing = Listing(arguments.annotations, arguments.categories)
    check_listing(arguments.server, listing)
    benchmark = server.benchmark(listing)
    videos = [
        video
        for source in arguments.sources
        for video in open_videos(Unlabelled(arguments.server, source, listing, arguments.sequences))
    ]
    refuse_duplicates([video.sequence.name for video in videos])
    preset = load_preset(arguments.preset, overrides(arguments.set), arguments.weights)
    wanted = label_indices([benchmark], preset.labels, f"preset {preset.name}")
    model = model_of(arguments, preset)
    found = gather(videos, open_videos, model, wanted, arguments.jobs, arguments.ray)
    for place, error in sorted(found.errors.items()):
        first = error.partition("\n")[0]
        print(f"qdtrack submit: error: {videos[place].sequence.name} is left out: {first}", file=sys.stderr)
    if not found.recordings:
        return EXIT_FAILED
    tracked = [TrackedVideo(videos[place], one.tracks) for place, one in sorted(found.recordings.items())]
    dropped = sum((one.dropped for one in found.recordings.values()), Counter[str]())
    server.write(arguments.output, tracked, preset.labels, listing)
    lost = "".join(f", {count} {reason}" for reason, count in dropped.items())
    frames = sum(len(video.tracks) for video in tracked)
    count = "1 sequence" if len(tracked) == 1 else f"{len(tracked)} sequences"
    print(f"{arguments.output}: tracks of {count}, {frames} frames{lost}")
    if len(tracked) < len(videos):
        lacking = f"{len(videos) - len(tracked)} of {len(videos)} sequences are not in the file: do not upload it"
        print(f"qdtrack submit: {'interrupted' if found.is_interrupted else 'error'}: {lacking}", file=sys.stderr)
        return EXIT_INTERRUPTED if found.is_interrupted else EXIT_FAILED
    return EXIT_OK


def refuse_duplicates(names: Sequence[str]) -> None:
    """Raise DataError where a name comes twice: the server knows sequences by it."""
    from qdtrack_ros.data.types import DataError

    twice = [name for name, count in Counter(names).items() if count > 1]
    if twice:
        raise DataError(f"sequence {twice[0]} is there twice; the server knows sequences by name: give each once")
