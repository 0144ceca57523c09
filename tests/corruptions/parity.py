"""Print how far selbench's corruptions are from outputs of the published code, as Markdown.

    SELBENCH_TEST_DATA=DATA SELBENCH_FROST=DATA/frost python tests/corruptions/parity.py

Over all images and severities, in grey levels: the share of equal values, the mean absolute
difference, and the largest one.
"""

import sys

from test_corruptions_golden import AGREEMENT, FILES, differences


def row(name: str) -> str:
    cells = []
    for size in FILES:
        apart = differences(name, size).abs().double()
        equal = (apart == 0).double().mean().item()
        share = f"{equal:.3%}" if equal < 1 else "all"
        cells.append(f"{share} / {apart.mean():.4f} / {apart.max():.0f}")
    return f"| {name} | {' | '.join(cells)} |\n"


def main() -> None:
    sys.stdout.write(f"| corruption | {' | '.join(f'{size} px' for size in FILES)} |\n")
    sys.stdout.write(f"|---|{'---|' * len(FILES)}\n")
    for name in AGREEMENT:
        sys.stdout.write(row(name))


if __name__ == "__main__":
    main()
