"""Find a network's weights among the tensors of a checkpoint, and load them."""

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor, nn

from selbench._kit.errors import SelbenchError, unknown
from selbench.models.checkpoints import State, states_in

# Where checkpoints keep the weights to evaluate, the usual places first; then places on no list,
# # moving averages last.
NESTS = ("", "state_dict", "model_state_dict", "model", "net", "network", "params", "weights",
         "teacher", "backbone", "encoder", "encoder_q", "student")  # fmt: skip
AVERAGES = ("ema", "swa", "averag", "momentum")
WRAPPERS = {"module", "_orig_mod"}  # parts of names that DataParallel and compile add
UNSAID = {"model", "network", "net"}  # prefixes that do not identify a network
TOP = "top"  # the name of the place "" in messages and options
# First words of entries that training scripts add and that do not affect the logits.
EXTRAS = ("criterion", "criteria", "loss", "train_", "val_", "valid_", "test_", "n_averaged",
          "queue", "projector", "predictor", "metrics.")  # fmt: skip


@dataclass(frozen=True)
class WeightsFound:
    """A candidate for a network's weights.

    Attributes:
        name: the path in the checkpoint, such as "model_ema" or "teacher.backbone"; "" at the top.
        state: the weights, by the network's names.
        misfit: why they do not fit the network; "" if they do.
    """

    name: str
    state: State
    misfit: str


def read_state(path: Path) -> State:
    """Read a checkpoint's weights by their names in the file; of several, the largest or usual."""
    states = states_in(path)
    return states[min(states, key=lambda name: (-len(states[name]), _rank(name)))]


def load_weights(model: nn.Module, path: Path, entry: str | None = None) -> None:
    """Load a checkpoint into a network of `build_model`, or into its layer `network`.

    Args:
        model: the network.
        path: the checkpoint.
        entry: which of several weights to load; None for the usual.

    Raises:
        SelbenchError: for missing or unexpected entries or another shape (names the first), and for
            an unknown `entry`.
    """
    target, found = _candidates(model, path, entry)[0]
    if found.misfit:
        raise SelbenchError(
            f"{path} does not fit the model: {found.misfit}; choose the architecture it was "
            "trained with"
        )
    target.load_state_dict(found.state, strict=False)


def fitting(model: nn.Module, path: Path, entry: str | None = None) -> list[str]:
    """Return the paths in a checkpoint of weights that fit a network; the first is loaded."""
    found = [each for _, each in [*_candidates(model, path, entry), *_candidates(model, path)]]
    return list(dict.fromkeys(each.name or TOP for each in found if not each.misfit))


def _candidates(
    model: nn.Module, path: Path, entry: str | None = None
) -> list[tuple[nn.Module, WeightsFound]]:
    """Return the candidates, with the part of the network that each fills; the best first."""
    states, inner = states_in(path), getattr(model, "network", None)
    targets = [model, inner] if isinstance(inner, nn.Module) else [model]
    pairs = [
        (target, each) for target in targets for each in _weights_below(target.state_dict(), states)
    ]
    pairs.sort(
        key=lambda pair: (
            bool(pair[1].misfit),
            -len(pair[1].state) if pair[1].misfit else 0,
            _rank(pair[1].name),
        )
    )
    chosen = [pair for pair in pairs if entry in (None, pair[1].name or TOP)]
    if not chosen:
        fits = {each.name or TOP for _, each in pairs if not each.misfit}
        raise unknown(f"entry of {path}", str(entry), sorted(fits or states))
    return chosen


def _rank(name: str) -> tuple[bool, list[int], str]:
    """Return the sort key of a path: how usual it is for the weights to evaluate."""
    words = [NESTS.index(w) if w in NESTS else len(NESTS) for w in name.split(".")]
    return any(word in name.lower() for word in AVERAGES), words, name


def _weights_below(
    model_state: Mapping[str, Tensor], states: Mapping[str, State]
) -> Iterator[WeightsFound]:
    """Yield candidates for the names of a model, one for each prefix of the names in the file."""
    expected = _plain(model_state)
    for place, named in states.items():
        state = _plain(named)
        below = {prefix: _below(prefix, state) for prefix in _prefixes(state, expected)}
        complete = [prefix for prefix, within in below.items() if not _missing(within, expected)]
        for prefix, within in below.items():
            words = [word for word in prefix.split(".") if word and word not in UNSAID]
            others = [name for name in state if not name.startswith((prefix, *complete))]
            misfit = _misfit(within, others, model_state, expected, named)
            found = {expected[name]: named[key] for name, key in within.items() if name in expected}
            yield WeightsFound(".".join([*([place] if place else []), *words]), found, misfit)


def _plain(names: Iterable[str]) -> dict[str, str]:
    """Return names without the parts of wrappers as keys, unless two would be equal."""
    plain = {".".join(w for w in n.split(".") if w not in WRAPPERS): n for n in names}
    return plain if len(plain) == len([*names]) else {name: name for name in names}


def _prefixes(state: Iterable[str], expected: Mapping[str, str]) -> set[str]:
    """Return the prefixes of the expected names, such as "backbone."; "" for none."""
    found = set()
    for name in state:
        words = name.split(".")
        cuts = range(len(words))
        found |= {".".join([*words[:n], ""]) for n in cuts if ".".join(words[n:]) in expected}
    return found or {""}


def _below(prefix: str, state: Mapping[str, str]) -> dict[str, str]:
    return {n.removeprefix(prefix): key for n, key in state.items() if n.startswith(prefix)}


def _missing(within: Mapping[str, str], expected: Mapping[str, str]) -> list[str]:
    # Batch norm's counters do not affect evaluation; checkpoints before torch 0.4.1 lack them.
    return [n for n in expected if n not in within and not n.endswith("num_batches_tracked")]


def _misfit(
    within: Mapping[str, str],
    others: Iterable[str],
    model_state: Mapping[str, Tensor],
    expected: Mapping[str, str],
    named: State,
) -> str:
    """Return why weights do not fit; "" if they do."""
    missing = [expected[name] for name in _missing(within, expected)]
    unexpected = [n for n in (*within, *others) if n not in expected and not n.startswith(EXTRAS)]
    if missing or unexpected:
        first, odd = (missing or ["none"])[0], (unexpected or ["none"])[0]
        return f"first missing {first}, first unexpected {odd}"
    for name, known in expected.items():
        if name not in within:
            continue
        given, mine = named[within[name]], model_state[known]
        if given.shape != mine.shape:
            return f"{known} is {tuple(given.shape)}, the model's is {tuple(mine.shape)}"
        if mine.is_floating_point() and not given.is_floating_point():
            return f"{known} is {given.dtype}, the model's is {mine.dtype}"
    return ""


def recognised_options(path: Path) -> dict[str, str | int]:
    """Return the options of CIFAR's ResNets that a checkpoint of one was trained with."""
    state = read_state(path)
    convolutional = any(name.endswith(".shortcut.0.weight") for name in state)
    options: dict[str, str | int] = {"shortcut": "B" if convolutional else "A"}
    firsts = sorted((name for name in state if name.endswith("conv1.weight")), key=len)
    if firsts and state[firsts[0]].ndim == 4:
        options["width"] = len(state[firsts[0]])
    return options


def recognised_blocks(path: Path) -> int:
    """Return the blocks per stage of the ResNet in a checkpoint; 0 if it is no ResNet."""
    found = (re.search(r"(?:^|\.)layer1\.(\d+)\.", name) for name in _plain(read_state(path)))
    return max((int(each[1]) + 1 for each in found if each), default=0)


def outputs_in(path: Path, model: nn.Module) -> int | None:
    """Return the number of outputs of a checkpoint's network; None if unknown.

    It is the size of the last linear layer; `model` is the architecture with any number of outputs.
    """
    inner = getattr(model, "network", model)
    heads = [name for name, each in inner.named_modules() if isinstance(each, nn.Linear)]
    state = read_state(path)
    names = [n for n in state if heads and f".{n}".endswith(f".{heads[-1]}.weight")]
    return len(state[names[0]]) if names else None
