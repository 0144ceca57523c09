"""Evaluates networks under conditions; each perturbed batch is made once for all of them."""

from selbench._engine.devices import also_on
from selbench._engine.engines import ENGINES, Engine, opened
from selbench._engine.local import Local, evaluate, prepare
from selbench._engine.plan import plan

__all__ = [
    "ENGINES",
    "Engine",
    "Local",
    "also_on",
    "evaluate",
    "opened",
    "plan",
    "prepare",
]
