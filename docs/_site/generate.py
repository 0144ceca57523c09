"""Write the pages of docs/reference that are made of the code, or check that they are these.

python docs/_site/generate.py           # write
python docs/_site/generate.py --check   # exit code 1 where one is out of date
"""

import sys
from pathlib import Path

import typer
from typer.core import TyperArgument

import selbench.tables.curves  # noqa: F401 (metrics of training)
from selbench.commands.cli import app
from selbench.commands.panels import paragraphs
from selbench.metrics import AVERAGES, Metric
from selbench.suites import METRICS

REFERENCE = Path(__file__).parents[1] / "reference"
MADE = "<!-- made by docs/_site/generate.py; change the code, then run it -->\n"
BETTER = {1: "higher is better", -1: "lower is better", 0: ""}
Parameter = TyperArgument  # or an option, which has the same attributes


def commands() -> str:
    """Return the page of commands."""
    group = typer.main.get_command(app)
    parts = [
        MADE,
        "# Commands\n",
        "`selbench COMMAND --help` prints the same; `python -m selbench` is the same program.\n",
        "Exit codes: 0 done, 1 a check failed, 2 a problem that you can fix, 3 some cells are "
        "missing ([all of them](../faults.md)).\n",
    ]
    for name, command in group.commands.items():  # type: ignore[attr-defined]
        usage = " ".join(_usage(each) for each in _arguments(command))
        parts += [f"## {name}\n", f"    selbench {name} {usage}".rstrip() + "\n"]
        parts.append(paragraphs(command.help or "") + "\n")
        rows = [_row(each) for each in command.params if each.name != "help"]
        parts.append("| | meaning | without it |\n|---|---|---|\n" + "".join(rows))
        if command.epilog:
            examples = command.epilog.replace("\\[", "[").splitlines()[1:]
            lines = [line.removeprefix("  ") for line in examples]
            parts.append("".join(f"    {line}\n" for line in lines))
    return "\n".join(parts)


def _arguments(command: object) -> list[TyperArgument]:
    return [each for each in command.params if isinstance(each, TyperArgument)]  # type: ignore[attr-defined]


def _usage(each: TyperArgument) -> str:
    name = each.metavar or str(each.name).upper()
    return name if each.required else f"[{name}]"


def _row(each: Parameter) -> str:
    names = f"`{each.name}`" if isinstance(each, TyperArgument) else _named(each)
    said = (each.help or "").replace("|", "\\|")
    shown = each.show_default if isinstance(each.show_default, str) else None
    default = shown or ("" if each.default in (None, False, ()) else f"`{each.default}`")
    return f"| {names} | {said} | {default} |\n"


def _named(option: Parameter) -> str:
    """Return an option's names, with what its value is called."""
    value = "" if getattr(option, "is_flag", False) or not option.metavar else f" {option.metavar}"
    return ", ".join(f"`{name}{value}`" for name in option.opts).replace("|", "\\|")


def metrics() -> str:
    """Return the page of metrics."""
    names = ("metric", "meaning", "source")
    head = f"| {' | '.join(names)} |\n{'|---' * len(names)}|\n"
    suites = dict.fromkeys(each.suite for each in METRICS.values())
    parts = [
        MADE,
        "# Metrics\n",
        "What tables, figures, reports and claims show, by the suite that measures it. "
        "For programs: `selbench list columns --json`, `selbench list metrics --json`.\n",
    ]
    for suite in suites:
        own = [each for each in METRICS.values() if each.suite == suite]
        title = f"`--suite {suite}`" if suite else "Every run"
        parts.append(f"## {title}\n\n{head}" + "".join(map(_metric, own)))
    return "\n".join(parts)


def _metric(each: Metric) -> str:
    average = AVERAGES[each.average]
    average = f"averaged {average}" if average.startswith("over") else average
    facts = [each.unit.name, BETTER[each.better], average]
    cells = (
        f"`{each.name}`" + (f"; in tables: {each.label}" if each.label != each.name else ""),
        f"{each.meaning}. *{'; '.join(filter(None, facts))}*",
        each.source,
    )
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |\n"


PAGES = {"commands.md": commands, "metrics.md": metrics}


def main() -> None:
    """Write the pages, or compare them."""
    different = []
    for name, made in PAGES.items():
        path, text = REFERENCE / name, made()
        if "--check" not in sys.argv:
            path.write_text(text)
        elif path.read_text() != text:
            different.append(name)
    if different:
        sys.exit(f"out of date: {', '.join(different)}; run python docs/_site/generate.py")


if __name__ == "__main__":
    main()
