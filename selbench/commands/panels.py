"""The layout of help texts: options in panels by subject, with defaults and examples."""

from collections.abc import Callable
from copy import copy
from dataclasses import dataclass
from functools import wraps
from inspect import Parameter, signature
from typing import Annotated, Any, get_args, get_origin

import typer
from typer.models import OptionInfo

# Panels by title, in the order of help texts: each option, and its default if it has no value of
# its own. Options not listed here appear under "Options".
PANELS: dict[str, dict[str, str]] = {
    "What is measured": {
        "suite": "the study's",
        "corruption": "all of the suites",
        "attack": "all of the suites",
        "limit": "all",
        "alpha": "the study's",
        "seed": "the study's",
        "source": "generated",
        "scale": "by the size of the images",
    },
    "Your networks": {
        "model": "",
        "weights": "",
        "pretrained": "",
        "threat_model": "Linf",
        "checkpoint": "",
        "entry": "",
        "name": "what --model says",
        "logits": "",
        "mean": "what the network declares",
        "std": "what the network declares",
        "input_size": "what the network declares",
        "class_map": "in their order",
        "trained": "",
    },
    "Your images": {
        "dataset": "the study's",
        "data": "the study's",
        "resize": "as they are",
        "crop": "--resize",
        "interpolation": "bilinear",
    },
    "Attacks": {
        "full": "",
        "pixels": "any numbers in [0, 1]",
        "eot": "",
        "adversarials": "",
        "save_adversarials": "",
        "budget": "no end",
        "margin": "",
        "threshold": "",
    },
    "Mechanism": {"layers": "all ReLUs", "columns": "units", "estimator": "probes"},
    "Smoothing and probability": {
        "sigma": "0.25",
        "draws": "1000",
        "error": "0.1",
        "confidence": "0.95",
        "method": "linear",
    },
    "Where it runs": {
        "device": "",
        "engine": "",
        "address": "",
        "gpus_per_task": "",
        "time_limit": "no end",
    },
    "Results": {
        "store": "",
        "format": "",
        "log": "",
        "retry_failed": "",
        "dry_run": "",
        "output": "",
        "junit": "",
        "force": "",
        "verbose": "",
        "quiet": "",
    },
}


@dataclass(frozen=True)
class Example:
    """An example of a command in a help text.

    Attributes:
        words: the words after `selbench`.
        purpose: its purpose, in a few words.
    """

    words: str
    purpose: str


def add(
    app: typer.Typer,
    command: Callable[..., Any],
    *examples: Example,
    name: str | None = None,
    panels: bool = False,
) -> None:
    """Register a command; its help text is the docstring, then options, then `examples`.

    Args:
        app: the application to add it to.
        command: a function whose parameters are annotated with options.
        examples: examples at the end of the help text.
        name: the command's name; None for the function's.
        panels: whether to arrange options in `PANELS`, for commands with many.
    """
    lines = [f"  selbench {each.words}\n    {each.purpose}" for each in examples]
    head = "Example:" if len(lines) == 1 else "Examples:"
    epilog = "\n".join([head, *lines]).replace("[", "\\[") if examples else None
    shown = panelled(command) if panels else command
    app.command(name=name, help=paragraphs(command.__doc__ or ""), epilog=epilog)(shown)


def paragraphs(text: str) -> str:
    """Return text with one line per paragraph, so that it fills any terminal."""
    parts = text.strip().split("\n\n")
    return "\n\n".join(" ".join(part.split()) for part in parts)


def panelled(command: Callable[..., Any]) -> Callable[..., Any]:
    """Return a command whose options are arranged in `PANELS` and show their defaults."""
    shown = signature(command, eval_str=True)
    parameters = [_placed(each) for each in shown.parameters.values()]
    order = {name: place for place, title in enumerate(PANELS) for name in PANELS[title]}
    parameters.sort(key=lambda each: order.get(each.name, -1))

    @wraps(command)
    def same(**values: Any) -> Any:
        return command(**values)

    vars(same)["__signature__"] = shown.replace(
        parameters=[each.replace(kind=Parameter.KEYWORD_ONLY) for each in parameters]
    )
    same.__annotations__ = {each.name: each.annotation for each in parameters}
    return same


def _placed(parameter: Parameter) -> Parameter:
    """Return a parameter with its panel."""
    title = next((title for title, names in PANELS.items() if parameter.name in names), None)
    if title is None or get_origin(parameter.annotation) is not Annotated:
        return parameter
    kind, *rest = get_args(parameter.annotation)
    return parameter.replace(
        annotation=Annotated[kind, *(_in(each, parameter, title) for each in rest)]
    )


def _in(option: object, parameter: Parameter, title: str) -> object:
    if not isinstance(option, OptionInfo):
        return option
    placed, default = copy(option), PANELS[title][parameter.name]
    placed.rich_help_panel = option.rich_help_panel or title
    if parameter.default is None and default:
        placed.show_default = default
    return placed
