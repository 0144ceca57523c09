"""Ray tasks under way: never more than memory has room for, and none left behind."""

from collections.abc import Callable, Generator, Iterable
from typing import Any, TypeVar

from selbench._engine.ray_cluster import import_ray

Item = TypeVar("Item")


def as_completed(
    items: Iterable[Item], submit: Callable[[Item], Any], room: int
) -> Generator[tuple[Item, Any], None, None]:
    """Submit tasks, and yield items with the references to their results, as they come.

    Items are asked for one by one, when there is room. Tasks that are still under way when the
    caller stops are ended, with their processes.

    Args:
        items: what to do.
        submit: starts an item's task and returns the reference; None passes the item over.
        room: how many tasks are under way at most.
    """
    ray, waiting = import_ray(), iter(items)
    under_way: dict[Any, Item] = {}
    try:
        while True:
            while len(under_way) < room and (item := next(waiting, None)) is not None:
                reference = submit(item)
                if reference is not None:
                    under_way[reference] = item
            if not under_way:
                return
            (reference, *_), _ = ray.wait(list(under_way), num_returns=1)
            yield under_way.pop(reference), reference
    finally:
        for reference in under_way:
            ray.cancel(reference, force=True)


def received(reference: Any) -> Any:
    """Return what a task returned; what it raised is raised here as it was there."""
    ray = import_ray()
    try:
        return ray.get(reference)
    except ray.exceptions.RayTaskError as problem:
        if isinstance(problem.cause, Exception):
            raise problem.cause from None
        raise
