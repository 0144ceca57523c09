"""Names of what selbench ships: a mistyped one is refused before torch is imported."""

import re
import sys
from collections.abc import Sequence
from importlib.metadata import entry_points
from importlib.util import find_spec
from pathlib import Path

from selbench._kit.errors import unknown
from selbench._kit.registry import GROUP
from selbench.commands.options import split_words

SHIPPED: dict[str, tuple[str, ...]] = {
    "suite": (
        *("clean", "attacks", "corruptions", "corruptions-extra", "corruptions-all"),
        *("corruptions-bar", "ablation", "attacks-strong", "bounds", "calibration", "gradients"),
        *("jacobian", "elasticity", "dimensionality", "selectivity", "mechanism", "probability"),
        *("smoothing", "stability"),
    ),
    "corruption": (
        *("gaussian_noise", "shot_noise", "impulse_noise", "defocus_blur", "glass_blur"),
        *("motion_blur", "zoom_blur", "snow", "frost", "fog", "brightness", "contrast"),
        *("elastic_transform", "pixelate", "jpeg_compression", "speckle_noise", "gaussian_blur"),
        *("spatter", "saturate", "single_frequency_greyscale", "cocentric_sine_waves"),
        *("plasma_noise", "perlin_noise", "brownish_noise", "sparkles", "inverse_sparkles"),
        *("circular_motion_blur", "transverse_chromatic_abberation", "caustic_refraction"),
        *("pinch_and_twirl", "ripple", "checkerboard_cutout", "lines", "blue_noise_sample"),
    ),
    "attack": (
        *("fgsm-linf", "paper-pgd", "pgd-linf", "pgd-l2", "masking", "noise-linf", "noise-l2"),
        *("pgd-margin-linf", "pgd-margin-l2", "transfer-linf", "ddn-l2", "fmn-l2", "fmn-linf"),
        *("deepfool-l2", "hopskipjump-l2", "autoattack-linf", "autoattack-l2"),
    ),
    "figure": (
        *("ablation", "attacks", "probability", "calibration", "corruptions"),
        *(
            "corruption-differences",
            "cost",
            "selectivity",
            "dimensionality",
            "gradients",
            "jacobian",
            "elasticity",
            "tradeoff",
        ),
        *("tradeoff-relative", "tradeoff-odds", "training", "training-layers"),
    ),
    "format": ("table", "md", "csv", "json", "latex", "html"),
    "--engine": ("local", "ray"),
}


def check_typed(
    suites: list[str] | None,
    corruptions: list[str] | None,
    attacks: list[str] | None,
    alphas: list[str] | None,
    seeds: list[str] | None,
) -> None:
    """Raise `SelbenchError` for a mistyped value of the options that many commands have."""
    from selbench.study import parse_alphas, parse_seeds

    if alphas:
        parse_alphas(split_words(alphas) or ())
    if seeds:
        parse_seeds(split_words(seeds) or ())
    check_names("suite", suites)
    check_names("corruption", split_words(corruptions))
    check_names("attack", split_words(attacks))


def check_names(noun: str, names: Sequence[str] | None) -> None:
    """Raise `SelbenchError` for an unknown name of this kind.

    With plugins, or after torch's import, only the registries know all names, and check them. So
    too a name that a file of the packages registers and `SHIPPED` lacks.
    """
    if "torch" in sys.modules or entry_points(group=GROUP):
        return
    for name in names or ():
        if name not in SHIPPED[noun] and not _registered(noun, name):
            raise unknown(noun, name, SHIPPED[noun])


def _registered(noun: str, name: str) -> bool:
    """Return whether a file of the packages seems to register a component of this name."""
    function = re.escape(name.replace("-", "_"))
    pattern = rf"^(@[A-Z]+\b[^\n]*|\))\ndef {function}\("  # below a decorator
    if noun == "attack":  # these are values, not functions under a decorator
        pattern += rf'|"{re.escape(name)}"'
    specs = (find_spec("selbench"), find_spec("corruptions"))
    roots = [Path(root) for spec in specs if spec for root in spec.submodule_search_locations or ()]
    files = (file for root in roots for file in root.rglob("*.py"))
    return any(re.search(pattern, file.read_text("utf-8"), re.MULTILINE) for file in files)
