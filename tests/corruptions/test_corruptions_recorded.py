"""Some values of every corruption as it was when its version was last raised.

A failure says that results stored under that version are no longer reproduced. Where the change is
wanted, raise `version` in the corruption's decorator and write the file anew with
`python tests/corruptions/test_corruptions_recorded.py`.
"""

import json
from pathlib import Path

import pytest
import torch

from corruptions import CORRUPTIONS, corrupt, frost

pytestmark = pytest.mark.long(8)

FILE = Path(__file__).with_name("recorded.json")
SEVERITIES = (2, 4, 5)
VALUES = 48


def pictures(size: int, batch: int = 3) -> torch.Tensor:
    """Make gradients with edges, in whole numbers, so that every machine makes the same."""
    example, channel, row, column = torch.meshgrid(
        *(torch.arange(count) for count in (batch, 3, size, size)), indexing="ij"
    )
    slopes = (3 + example) * row + 2 * column * (channel + 1) + 50 * channel
    tiles = (row // 7 + column // 5 + example) % 3 * 40
    return ((slopes + tiles) % 256).to(torch.uint8)


def values(name: str, size: int, severities=SEVERITIES) -> dict[str, list[int]]:
    images = pictures(size)
    picked = torch.arange(VALUES) * (images.numel() // VALUES) + 7 * torch.arange(VALUES)
    outs = {s: corrupt(images, name, s, examples=torch.arange(len(images))) for s in severities}
    return {str(s): out.flatten()[picked % out.numel()].tolist() for s, out in outs.items()}


@pytest.mark.parametrize(
    ("size", "severities"), [(32, SEVERITIES), (64, SEVERITIES), *((224, (s,)) for s in SEVERITIES)]
)
@pytest.mark.parametrize("name", CORRUPTIONS)
@pytest.mark.sample("name")
def test_reproduces_what_its_version_recorded(name, size, severities):
    recorded = json.loads(FILE.read_text())[name]
    assert recorded["version"] == CORRUPTIONS[name].version
    for severity, now in values(name, size, severities).items():
        before = torch.tensor(recorded[str(size)][severity])
        apart = (torch.tensor(now) - before).abs()
        assert apart.max() <= 1
        assert (apart == 1).sum() <= VALUES // 10


if __name__ == "__main__":
    frost.PACKAGE = "package_that_nobody_installs"
    table = {
        name: {"version": entry.version} | {str(size): values(name, size) for size in (32, 64, 224)}
        for name, entry in CORRUPTIONS.items()
    }
    lines = ",\n".join(f"{json.dumps(name)}: {json.dumps(row)}" for name, row in table.items())
    FILE.write_text(f"{{\n{lines}\n}}\n")
