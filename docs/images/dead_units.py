"""Draw how units die, epoch by epoch: python docs/images/dead_units.py IMAGES ALPHA STUDY.toml ...

The networks of seed 0 were trained before, by `selbench train STUDY.toml --data IMAGES`; each
line is one of the studies, labelled by what its recipe says that the first one's does not.
"""

import sys
from pathlib import Path

from matplotlib.figure import Figure

from selbench.datasets import load_dataset
from selbench.study import Recipe, load_study
from selbench.training import find

PANELS = {
    "dead": ("dead units of 240", lambda epoch: sum(epoch["dead"])),
    "selectivity": ("class selectivity index of the batches", lambda epoch: epoch["selectivity"]),
    "accuracy": ("validation accuracy, %", lambda epoch: 100 * epoch["accuracy"]),
}


def label(recipe: Recipe, first: Recipe) -> str:
    """Say what a recipe has that another has not."""
    apart = {
        name: value
        for name, value in recipe.model_dump().items()
        if value != getattr(first, name) and value is not None
    }
    return ", ".join(f"{name} = {value:g}" for name, value in apart.items()) or "the papers' form"


images, alpha, *names = sys.argv[1:]
studies = [load_study(name) for name in names]
source = studies[0].dataset.model_copy(update={"root": Path(images).resolve()})
dataset = load_dataset(source)
figure = Figure(figsize=(11, 3.8), layout="constrained")
for axes, (title, value) in zip(figure.subplots(1, 3), PANELS.values(), strict=True):
    for number, study in enumerate(studies):
        found = find(study, dataset, float(alpha), 0)
        if found is None:
            sys.exit(f"{names[number]} has no network of alpha = {alpha} and seed 0 yet; train it")
        epochs = found.manifest["curves"]
        axes.plot(
            [epoch["number"] for epoch in epochs],
            [value(epoch) for epoch in epochs],
            color=f"C{number}",
            label=label(study.recipe, studies[0].recipe),
        )
    axes.set(title=title, xlabel="epoch", ylim=(0, None), xticks=range(2, 15, 2))
    axes.spines[["top", "right"]].set_visible(False)
figure.legend(*axes.get_legend_handles_labels(), loc="outside lower center", ncols=6, frameon=False)
figure.suptitle(f"ResNet8 at alpha = {alpha}, seed 0: one network a line", fontsize=11)
figure.savefig("docs/images/dead-units.png", dpi=110)
