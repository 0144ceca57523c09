"""The manifest of a study's results: how they were made, and which of them count.

Since format 3 it also says what the latest run was asked for (`request`), whether that is there
(`state`), and what itself must be (`digest`). One without a state is of an earlier version, which
wrote manifests at the end of runs alone.
"""

from pathlib import Path
from typing import Any

from selbench._kit.errors import UNLIKE, damaged
from selbench._kit.files import read_json, write_json
from selbench.request import Request, request_of
from selbench.store.findings import from_records
from selbench.store.records import digest_of
from selbench.store.schema import LARGEST, check_made, check_record

RUNNING, COMPLETE, INCOMPLETE = "running", "complete", "incomplete"

FACTS = {"data": "text", "training": "text", "device": "text?", "cells": "text?"}
SUBJECT = {"weights": "text", "training": "text?", "helper": "text?", "about": "text?"}
EPOCH = {
    "number": "whole",
    **dict.fromkeys(("cross_entropy", "selectivity", "accuracy", "gradient", "pull"), "number?"),
}
CONDITION = {"source": "text", "version": "whole", "data": "text"}
STUDY = ("dataset", "model", "recipe", "corruptions", "mechanism")  # its tables


def read_manifest(path: Path) -> dict[str, Any]:
    """Read a manifest.

    Raises:
        DamagedError: where it lacks what tables are made of, or is not what was written.
    """
    content = read_json(path)
    try:
        _check(content)
        if content.get("digest") != (digest_of(content) if "state" in content else None):
            raise ValueError(UNLIKE)
    except (KeyError, TypeError, ValueError, AttributeError) as problem:
        raise damaged(path, problem, "delete it and run the study again") from problem
    manifest: dict[str, Any] = content
    if "request" not in manifest:  # an earlier version wrote it
        manifest["request"] = request_of(manifest.get("command", [])).model_dump(mode="json")
    return manifest


def write_manifest(path: Path, content: dict[str, Any]) -> None:
    """Write a manifest with its digest."""
    write_json(path, content | {"digest": digest_of(content)})


def check_curves(curves: Any) -> None:
    """Raise TypeError or ValueError unless these are the epochs of a network's training."""
    if not isinstance(curves, list):
        raise TypeError("its curves are no list")
    for epoch in curves:
        check_record(epoch, EPOCH, "an epoch")
        if odd := set(epoch) - {*EPOCH, "dead", "index"}:
            raise ValueError(f"an epoch has {min(odd)!r:.40}")
        dead = epoch.get("dead", [])
        if not isinstance(dead, list) or not all(
            type(n) is int and 0 <= n <= LARGEST for n in dead
        ):
            raise ValueError(f"dead of an epoch is {dead!r:.40}")
        index = epoch.get("index", [])
        if not isinstance(index, list) or not all(type(n) is float and 0 <= n <= 1 for n in index):
            raise ValueError(f"index of an epoch is {index!r:.40}")


def _check(content: Any) -> None:
    check_record(content, FACTS | {"measurements": "text?"}, "it")
    for facts in content["subjects"].values():
        check_record(facts, SUBJECT, "a subject")
        check_curves(facts.get("curves", []))
    for facts in content["conditions"].values():
        check_record(dict(zip(CONDITION, facts, strict=True)), CONDITION, "a condition")
    study = content.get("study", {})
    check_record(study, {}, "its study")
    for name in STUDY:
        check_record(study.get(name, {}), {}, f"{name} of its study")
    if not isinstance(content.get("findings", {}), dict):
        raise TypeError("its findings are no record")
    for found in content.get("findings", {}).values():
        from_records(found)
    check_made(content)
    Request.model_validate(content.get("request", {}))
    if content.get("state", COMPLETE) not in (RUNNING, COMPLETE, INCOMPLETE):
        raise ValueError(f"its state is {content['state']!r:.40}")
