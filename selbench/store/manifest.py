"""The manifest of a study's results: how they were made, and which of them count.

Since format 3 it also has the request of the latest run (`request`), whether it is complete
(`state`), and a digest of the manifest (`digest`). A manifest without a state is of an earlier
version, which wrote manifests only at the end of runs.
"""

from pathlib import Path
from typing import Annotated, Any, Literal, Required

from pydantic import ConfigDict, Field, InstanceOf, TypeAdapter
from typing_extensions import TypedDict

from selbench._kit.errors import UNLIKE, damaged
from selbench._kit.files import read_json, write_json
from selbench.request import Request, request_of
from selbench.store.findings import Finding
from selbench.store.records import digest_of
from selbench.store.schema import Made, Number, Text, Whole, checked

RUNNING, COMPLETE, INCOMPLETE = "running", "complete", "incomplete"


class Epoch(TypedDict, total=False):
    """An epoch of a network's training."""

    __pydantic_config__ = ConfigDict(extra="forbid")  # type: ignore[misc]

    number: Required[Whole]
    cross_entropy: Number | None
    selectivity: Number | None
    accuracy: Number | None
    gradient: Number | None
    pull: Number | None
    dead: list[Annotated[Whole, Field(ge=0)]]
    index: list[Annotated[InstanceOf[float], Field(ge=0, le=1)]]


class Subject(TypedDict, total=False):
    """The facts on a network in a manifest."""

    weights: Required[Text]
    training: Text | None
    helper: Text | None
    about: Text | None
    curves: list[Epoch]


class Tables(TypedDict, total=False):
    """The tables of a study."""

    dataset: dict[str, Any]
    model: dict[str, Any]
    recipe: dict[str, Any]
    corruptions: dict[str, Any]
    mechanism: dict[str, Any]


class Manifest(Made, total=False):
    """The facts that tables need; for each condition its source, version and data."""

    data: Required[Text]
    training: Required[Text]
    subjects: Required[dict[str, Subject]]
    conditions: Required[dict[str, tuple[Text, Whole, Text]]]
    cells: Text | None
    measurements: Text | None
    study: Tables
    findings: dict[str, tuple[Finding, ...]]
    request: Request
    state: Literal["running", "complete", "incomplete"]


MANIFEST, CURVES = TypeAdapter(Manifest), TypeAdapter(list[Epoch])


def read_manifest(path: Path) -> dict[str, Any]:
    """Read a manifest.

    Raises:
        DamagedError: if it lacks facts for tables, or was changed after it was written.
    """
    content = read_json(path)
    try:
        checked(MANIFEST.validate_python, content)
        if content.get("digest") != (digest_of(content) if "state" in content else None):
            raise ValueError(UNLIKE)
    except ValueError as problem:
        raise damaged(path, problem, "delete it and run the study again") from problem
    manifest: dict[str, Any] = content
    if "request" not in manifest:  # of an earlier version
        manifest["request"] = request_of(manifest.get("command", [])).model_dump(mode="json")
    return manifest


def write_manifest(path: Path, content: dict[str, Any]) -> None:
    """Write a manifest with its digest."""
    write_json(path, content | {"digest": digest_of(content)})


def check_curves(curves: Any) -> None:
    """Raise ValueError unless these are the epochs of a network's training."""
    checked(CURVES.validate_python, curves)
