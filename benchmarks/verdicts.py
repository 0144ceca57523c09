"""Verdicts and processor seconds of AutoAttack: selbench's, and pyautoattack's at one epsilon each.

    python benchmarks/verdicts.py --data IMAGES --weights resnet20-cifar10.th --output FILE

Takes core-hours for 200 images. Chunks of images meet every attack in turn, so that a machine's
drift does not favour one. Every result is appended to FILE; the same command resumes.
"""

import argparse
import json
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from selbench._kit.progress import SILENT
from selbench._kit.types import to_images
from selbench.attacks.autoattack import autoattack
from selbench.attacks.folding import searched
from selbench.attacks.norms import NORMS
from selbench.datasets import Split
from selbench.datasets.dataset import decoded, limited
from selbench.models import build_model, load_weights
from selbench.study import ModelSpec, load_study

LEVELS = {
    "linf": [0.25, 0.5, 0.75, 1, 1.5, 2, 4],
    "l2": [8, 16, 32, 48, 64, 96, 128],
}
PEER_NORMS = {"linf": "Linf", "l2": "L2"}
OF_OTHERS = ModelSpec(name="resnet20", options={"shortcut": "A"})
OF_IMAGENET = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)

Fallen = list[list[bool]]  # of levels, of images
Attack = Callable[[nn.Module, Split, Sequence[float], str], Fallen]


def ours(network: nn.Module, split: Split, levels: Sequence[float], norm: str) -> Fallen:
    """Attack all levels in one go, in selbench's order."""
    return _by_selbench(network, split, levels, norm, full=False)


def ours_full(network: nn.Module, split: Split, levels: Sequence[float], norm: str) -> Fallen:
    """Attack every level, as with `--full`."""
    return _by_selbench(network, split, levels, norm, full=True)


def _by_selbench(
    network: nn.Module, split: Split, levels: Sequence[float], norm: str, full: bool
) -> Fallen:
    images = to_images(split.images)
    quick, epsilons = searched(network, images[:2]), [level / 255 for level in levels]
    found = autoattack(
        quick, images, split.labels, split.examples, epsilons, NORMS[norm], full=full
    )
    return [each.fallen.tolist() for each in found]


def pyautoattack(network: nn.Module, split: Split, levels: Sequence[float], norm: str) -> Fallen:
    """Run pyautoattack's standard version, at one level after the other."""
    from pyautoattack import AutoAttack

    images = to_images(split.images).contiguous()

    def at(level: float) -> list[bool]:
        attack = AutoAttack(
            network, norm=PEER_NORMS[norm], eps=level / 255, version="standard", seed=0
        )
        found, _ = attack.run_standard_evaluation(images, split.labels, batch_size=len(images))
        with torch.no_grad():
            fallen: Tensor = network(found).argmax(1) != split.labels
        return fallen.tolist()

    return [at(level) for level in levels]


def planned(arguments: argparse.Namespace) -> Iterator[tuple[Attack, list[float]]]:
    """Yield the attacks in the order in which a chunk of images meets them."""
    levels = arguments.levels or LEVELS[arguments.norm]
    if "peer" in arguments.who:
        yield from ((pyautoattack, [level]) for level in levels)
    if "single" in arguments.who:
        yield ours, [arguments.single]
    if "ours" in arguments.who:
        yield ours, levels
    if "full" in arguments.who:
        yield ours_full, levels


def measure(arguments: argparse.Namespace) -> None:
    """Append to the output what it lacks."""
    split = limited(decoded("folder", arguments.data, SILENT, None).test, arguments.images)
    spec = load_study(arguments.study).model if arguments.study else OF_OTHERS
    network = build_model(spec, 10, OF_IMAGENET)  # weights of selbench bring their own moments
    load_weights(network, arguments.weights)
    network = network.eval().requires_grad_(False)
    known = {result_key(each) for each in results(arguments.output)}
    for number, chunk in enumerate(split.batches(arguments.chunk)):
        for attack, levels in planned(arguments):
            result = {
                "who": attack.__name__,
                "norm": arguments.norm,
                "levels": levels,
                "chunk": [number, len(chunk)],
            }
            if result_key(result) in known:
                continue
            before, began = pace(network, split), time.process_time()
            fallen = attack(network, chunk, levels, arguments.norm)
            seconds = time.process_time() - began
            result |= {"seconds": seconds, "pace": [before, pace(network, split)]}
            with arguments.output.open("a") as file:
                file.write(json.dumps(result | {"fallen": fallen}) + "\n")


def pace(network: nn.Module, split: Split) -> float:
    """Return the milliseconds of an image's forward pass now: a machine's speed changes."""
    images, seconds = to_images(split.images[:25]), []
    with torch.inference_mode():
        for _ in range(9):
            began = time.process_time()
            network(images)
            seconds.append(time.process_time() - began)
    return 1000 * statistics.median(seconds) / len(images)


def result_key(result: dict) -> str:
    """Return what a result is about."""
    return json.dumps([result[name] for name in ("who", "norm", "levels", "chunk")])


def results(path: Path) -> list[dict]:
    """Read the results so far."""
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def summarise(found: list[dict]) -> None:
    """Print who leaves how many images standing at each level, and in what time."""
    for who in sorted({(each["norm"], each["who"], how(each)) for each in found}):
        mine = [each for each in found if (each["norm"], each["who"], how(each)) == who]
        standing: dict[float, int] = {}
        for each in mine:
            for level, fallen in zip(each["levels"], each["fallen"], strict=True):
                standing[level] = standing.get(level, 0) + fallen.count(False)
        seconds = sum(each["seconds"] for each in mine)
        bare = statistics.mean(pace for each in mine for pace in each["pace"])
        line = f"{' '.join(who)}: {standing} stand, {seconds:.0f} s; {bare:.2f} ms a forward pass"
        print(line)  # noqa: T201


def how(result: dict) -> str:
    """Return whether a result of ours is about all levels or one."""
    alone = len(result["levels"]) == 1 and result["who"] != pyautoattack.__name__
    return "one level" if alone else "all levels"


def main() -> None:
    """Measure, then print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--weights", type=Path, required=True)
    parser.add_argument("--study", help="whose architecture the weights are of")
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--images", type=int, default=200)
    parser.add_argument("--chunk", type=int, default=50)
    parser.add_argument("--norm", choices=LEVELS, default="linf")
    parser.add_argument("--levels", type=float, nargs="*")
    parser.add_argument("--single", type=float, default=1.0)
    parser.add_argument("--who", nargs="*", default=["peer", "single", "ours"])
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    measure(arguments)
    summarise(results(arguments.output))


if __name__ == "__main__":
    main()
