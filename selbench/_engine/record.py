"""A run's manifest: which measurements of a store are current, and what made them."""

from collections.abc import Mapping, Sequence
from typing import Any

from selbench.datasets import Dataset
from selbench.networks.network import Network
from selbench.request import Request
from selbench.store import StudyStore, condition_id
from selbench.store.findings import to_records
from selbench.study import Study
from selbench.suites import Work
from selbench.training import training_key

OF_CORRUPTIONS = ("corruptions", "representation", "recalibration")  # suites begin with these


def manifest_of(
    study: Study,
    dataset: Dataset,
    networks: Sequence[Network],
    pieces: Sequence[Work],
    store: StudyStore,
    request: Request,
) -> dict[str, Any]:
    """Return the part of the manifest that tables read, with earlier facts that still hold."""
    training = training_key(study, dataset)
    before = store.manifest() if store.finished else {"subjects": {}, "conditions": {}}
    kept = {n: f for n, f in before["subjects"].items() if f.get("training") in (training, "")}
    made = {
        condition_id(p.suite, p.name, level): [p.source, p.version, p.data]
        for p in pieces
        for level in p.levels
    }
    return {
        "study": _study(study, before, pieces),
        "data": dataset.test.checksum,
        "training": training,
        "conditions": _comparable(study, before, pieces) | made,
        "subjects": kept | _networks(networks, pieces, before),
        "findings": _findings(networks, before),
        "request": request.model_dump(mode="json"),
    }


def _study(study: Study, before: Mapping[str, Any], pieces: Sequence[Work]) -> dict[str, Any]:
    facts = study.model_dump(mode="json")
    if before.get("study") and not _of_corruptions(pieces):
        facts["corruptions"] = before["study"]["corruptions"]
    return facts


def _networks(
    networks: Sequence[Network], pieces: Sequence[Work], before: Mapping[str, Any]
) -> dict[str, dict[str, Any]]:
    """Return the facts on each network, by its name."""
    helpers = {
        network.name: helper.weights
        for work in pieces
        for network, helper in work.partners(networks)
        if helper is not None
    }
    transfers = any(not work.comparable and work.is_attack for work in pieces)
    facts = {}
    for each in networks:
        known = before["subjects"].get(each.name, {})
        earlier = str(known.get("helper", "")) if known.get("weights") == each.weights else ""
        facts[each.name] = {
            "weights": each.weights,
            "training": each.training,
            "diverged": each.diverged,
            "helper": helpers.get(each.name, "") if transfers else earlier,
            **({"about": each.about} if each.about else {}),
            **({"curves": list(each.curves)} if each.curves else {}),
        }
    return facts


def _findings(networks: Sequence[Network], before: Mapping[str, Any]) -> dict[str, Any]:
    """Return the probe's findings, by the hash of the weights."""
    found = {each.weights: to_records(each.findings) for each in networks}
    return {**before.get("findings", {}), **found}


def _comparable(study: Study, before: Mapping[str, Any], pieces: Sequence[Work]) -> dict[str, Any]:
    """Return the conditions of the earlier run that are comparable with those of `pieces`.

    Left out are other levels of the same attacks, since they are no longer on the curves, and
    corrupted images from another source.
    """
    again = tuple(condition_id(p.suite, p.name, None) + "/" for p in pieces if p.is_attack)
    conditions = {n: facts for n, facts in before["conditions"].items() if not n.startswith(again)}
    known = before.get("study")
    others = not known or known["corruptions"] != study.corruptions.model_dump(mode="json")
    if others and _of_corruptions(pieces):
        return {n: facts for n, facts in conditions.items() if not n.startswith(OF_CORRUPTIONS)}
    return conditions


def _of_corruptions(pieces: Sequence[Work]) -> bool:
    return any(piece.suite.startswith(OF_CORRUPTIONS) for piece in pieces)
