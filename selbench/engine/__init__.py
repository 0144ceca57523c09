"""Evaluate subjects under conditions: each perturbed batch is made once for all of them."""

from selbench.engine.devices import also_on
from selbench.engine.engines import ENGINES, Engine, opened
from selbench.engine.forward import prepare, run_attack, run_condition
from selbench.engine.local import Local, evaluate
from selbench.engine.plan import data_of, helper_of, plan

__all__ = [
    "ENGINES",
    "Engine",
    "Local",
    "also_on",
    "data_of",
    "evaluate",
    "helper_of",
    "opened",
    "plan",
    "prepare",
    "run_attack",
    "run_condition",
]
