"""What stands beside the report's figures: headings, how to read them, what they are made of."""

from dataclasses import dataclass

from selbench.metrics import RowFilter


@dataclass(frozen=True)
class Legend:
    """What stands beside a figure.

    Attributes:
        page: that it belongs to.
        heading: above it.
        text: how to read it.
        reads: what it is made of beside clean accuracies, metrics with a panel in it, and their
            chance levels: suites of accuracies, and rows of other metrics.
    """

    page: str
    heading: str
    text: str
    reads: tuple[str | RowFilter, ...] = ()


BANDS = "Lines are means over seeds, bands their 95 % intervals; of two seeds each is a thin line"
LEGENDS = {
    "tradeoff-relative": Legend(
        "index",
        "What corruptions and attacks leave of clean accuracy",
        "The scale is the ratio: accuracies divided by the network's clean one. Each dot is a "
        "network; diamonds are the means of each alpha, their crosses 95 % intervals over seeds, "
        "and the grey line joins them in the order of alpha. Up and to the right is better in "
        "both; a line that falls to the right trades one for the other.",
        ("corruptions", "attacks"),
    ),
    "tradeoff-selectivity": Legend(
        "index",
        "Accuracy against measured selectivity",
        "The papers' own view: alpha only moves selectivity, and seeds of one alpha differ in it. "
        "Dots, diamonds and crosses are as above; each panel has its own scale of accuracy.",
        ("corruptions", "attacks", RowFilter(("selectivity",), "selectivity_index")),
    ),
    "differences": Legend(
        "index",
        "Differences from alpha = 0",
        "What alpha changes, in points: diamonds are differences of means, bars their 95 % "
        "intervals over seeds. A bar that does not cross the line says that chance alone seldom "
        "makes such a difference. No scale is neutral to clean accuracy: compare the panels.",
        ("corruptions", "attacks"),
    ),
    "tradeoff": Legend(
        "attacks",
        "Corruptions against attacks, in plain accuracy",
        "The same as the overview's figure, without dividing by clean accuracy: networks that are "
        "worse on clean images lie lower and further left.",
        ("corruptions", "attacks"),
    ),
    "tradeoff-odds": Legend(
        "attacks",
        "Corruptions against attacks, in log odds",
        "The same in log odds beyond those of clean images (effective robustness). No scale is "
        "neutral to clean accuracy: what only one of these figures shows depends on the scale.",
        ("corruptions", "attacks"),
    ),
    "corruptions": Legend(
        "corruptions",
        "Accuracy under each corruption",
        "Per cent of test images classified correctly, mean over seeds. Corruptions run down in "
        "their families (noise, blur, weather, digital), severities across.",
        ("corruptions", "corruptions-extra"),
    ),
    "corruption-differences": Legend(
        "corruptions",
        "What alpha changes",
        "The same, minus alpha = 0: green cells are more robust than the networks whose "
        "selectivity was left alone, purple ones less. The numbers are percentage points. Single "
        "cells scatter from seed to seed; the leaderboard's family means have intervals.",
        ("corruptions", "corruptions-extra"),
    ),
    "attacks": Legend(
        "attacks",
        "Accuracy against the attack's budget",
        "Budgets grow to the right: how far an attack may move an image. L-inf bounds the change "
        "of every pixel, L2 that of the whole image, both in 255ths of the full range. "
        f"{BANDS}; the higher a line stays, the more robust the network. Dotted is the accuracy "
        "that bounds certify, where they were computed: the truth lies in the shaded gap.",
    ),
    "calibration": Legend(
        "calibration",
        "Calibration under corruptions",
        "A calibrated network that is 80 % sure is right in 80 % of the cases; the error says how "
        f"far a network is from that. {BANDS}; dotted is what sampling alone gives.",
    ),
    "training": Legend(
        "mechanism",
        "Training",
        "How the networks came about. The regulariser sees the selectivity of each batch, which "
        "sampling makes larger than that of the test images; with alpha = 0 nothing looks at it. "
        f"{BANDS}.",
    ),
    "training-layers": Legend(
        "mechanism",
        "Class selectivity of layers in training",
        "The index on validation images after each epoch. A panel for each alpha, a line for each "
        "layer, lighter with depth; lines are means over seeds.",
        tuple(
            RowFilter(("training",), each)
            for each in ("training_cross_entropy", "validation_selectivity")
        ),
    ),
    "selectivity": Legend(
        "mechanism",
        "Class selectivity, layer by layer",
        "How differently units respond to different classes: 0 alike, 1 to one class alone. "
        f"{BANDS}; dotted is what sampling alone gives.",
    ),
    "dimensionality": Legend(
        "mechanism",
        "Dimensionality, layer by layer",
        "How many directions the activations fill: of clean images, of what corruptions change in "
        f"them, and of what an attack changes. {BANDS}.",
    ),
    "gradients": Legend(
        "mechanism",
        "Gradients of units by the image",
        "How strongly units react to small changes of the image, and how much that varies from "
        f"image to image and from unit to unit. {BANDS}.",
    ),
    "ablation": Legend(
        "mechanism",
        "Ablation",
        "Accuracy as units are removed, the most selective first; dashed, as many units of the "
        "same layers at random. A line below its dashes says that selective units matter more than "
        f"others. The attack is made on every ablated network. {BANDS}.",
        (RowFilter(("ablation",), "control_accuracy"),),
    ),
    "jacobian": Legend(
        "mechanism",
        "The Jacobian",
        "How strongly the outputs react to small changes of the image; divided by the margin, "
        "whether a small change can turn the decision. Dots are networks, dashes their means.",
    ),
    "elasticity": Legend(
        "mechanism",
        "Local elasticity",
        "Does a training step on one image move the outputs for images of its class alone (a "
        "ratio far above 1), or for all alike (1)? Dots are networks, dashes their means.",
    ),
}


def legend_of(name: str, docstring: str) -> Legend:
    """Return what stands beside a figure; one that is not known has its docstring's first line."""
    heading, (first, *_) = name.replace("-", " ").capitalize(), [*docstring.splitlines(), ""]
    return LEGENDS.get(name) or Legend("mechanism", heading, first)
