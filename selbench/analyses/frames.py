"""What analyses return, as tables: tidy frames for programs, short lines for people."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Protocol, TypeVar, runtime_checkable

from torch import Tensor

if TYPE_CHECKING:
    import pandas as pd


@runtime_checkable
class Framed(Protocol):
    """A finding that can be had as a tidy frame: one row for each thing that was measured."""

    def frame(self) -> "pd.DataFrame":
        """Return its rows."""
        ...


T = TypeVar("T", bound=Framed)


class PerLayer(list[T]):
    """Findings of layers, in the order in which the network calls them; a list as others are."""

    def frame(self) -> "pd.DataFrame":
        """Return the rows of all layers, one table of them."""
        import pandas as pd

        return pd.concat([each.frame() for each in self], ignore_index=True)

    def __repr__(self) -> str:
        """Return a line for each layer."""
        return "\n".join(map(repr, self)) if self else "no layers"


def frame_of(columns: Mapping[str, Any]) -> "pd.DataFrame":
    """Return a frame of columns; tensors are on any device, and single values hold for all rows."""
    import pandas as pd

    plain = {
        n: c.detach().cpu().numpy() if isinstance(c, Tensor) else c for n, c in columns.items()
    }
    lengths = [len(each) for each in columns.values() if isinstance(each, Tensor)]
    return pd.DataFrame(plain, index=range(lengths[0] if lengths else 1))
