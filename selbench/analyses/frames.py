"""Results of analyses as tables: tidy frames for programs, short lines for people."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Protocol, TypeVar, runtime_checkable

from torch import Tensor

if TYPE_CHECKING:
    import pandas as pd


@runtime_checkable
class Framed(Protocol):
    """A result that can be converted to a tidy frame, with one row per measured thing."""

    def frame(self) -> "pd.DataFrame":
        """Return the rows."""
        ...


T = TypeVar("T", bound=Framed)


class PerLayer(list[T]):
    """Results by layer, in the order in which the network calls them; an ordinary list."""

    def frame(self) -> "pd.DataFrame":
        """Return the rows of all layers in one table."""
        import pandas as pd

        return pd.concat([each.frame() for each in self], ignore_index=True)

    def __repr__(self) -> str:
        """Return one line for each layer."""
        return "\n".join(map(repr, self)) if self else "no layers"


def frame_of(columns: Mapping[str, Any]) -> "pd.DataFrame":
    """Return a frame; tensors may be on any device, and single values are repeated in all rows."""
    import pandas as pd

    plain = {
        n: c.detach().cpu().numpy() if isinstance(c, Tensor) else c for n, c in columns.items()
    }
    lengths = [len(each) for each in columns.values() if isinstance(each, Tensor)]
    return pd.DataFrame(plain, index=range(lengths[0] if lengths else 1))
