"""The manifest of a study's results: how they were made, and which of them count."""

from pathlib import Path
from typing import Any

from selbench.errors import damaged
from selbench.files import read_json
from selbench.request import Request, request_of
from selbench.store.kinds import check_record

FACTS = {"data": "text", "training": "text", "device": "text?", "cells": "text?"}
SUBJECT = {"weights": "text", "training": "text?", "helper": "text?", "about": "text?"}
EPOCH = {
    "number": "whole",
    **dict.fromkeys(("cross_entropy", "selectivity", "accuracy"), "number?"),
}
CONDITION = {"source": "text", "version": "whole", "data": "text"}
STUDY = ("dataset", "model", "recipe", "corruptions", "mechanism")  # its tables


def read_manifest(path: Path) -> dict[str, Any]:
    """Read a manifest; one that lacks what tables are made of raises `SelbenchError`."""
    content = read_json(path)
    try:
        _check(content)
    except (KeyError, TypeError, ValueError, AttributeError) as problem:
        raise damaged(path, problem, "delete it and run the study again") from problem
    manifest: dict[str, Any] = content
    if "request" not in manifest:  # an earlier version wrote it
        manifest["request"] = request_of(manifest.get("command", [])).model_dump(mode="json")
    return manifest


def check_curves(curves: Any) -> None:
    """Raise TypeError or ValueError unless these are the epochs of a network's training."""
    if not isinstance(curves, list):
        raise TypeError("its curves are no list")
    for epoch in curves:
        check_record(epoch, EPOCH, "an epoch")
        if odd := set(epoch) - set(EPOCH):
            raise ValueError(f"an epoch has {min(odd)!r:.40}")


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
    words = content.get("command", [])
    if not isinstance(words, list) or not all(isinstance(word, str) for word in words):
        raise TypeError("its command is no list of words")
    check_record(content.get("versions", {}), {}, "what it says of versions")
    Request.model_validate(content.get("request", {}))
