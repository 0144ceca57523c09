"""Where claims come from: the shipped TOML files, or a file of the user's."""

from collections.abc import Sequence
from importlib import resources
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, get_args

from pydantic import BaseModel, Field, ValidationError

from selbench._kit.errors import SelbenchError, unknown
from selbench._kit.files import read_toml
from selbench._kit.frozen import Frozen, first_problem
from selbench.claims.claim import KINDS, Claim


class ClaimFile(Frozen):
    """The content of a file of claims: tables [[claim]]."""

    claim: Annotated[tuple[Claim, ...], Field(min_length=1)]


def shipped_claims() -> list[Claim]:
    """Return the claims that come with selbench, in the order of their ids."""
    folder = Path(str(resources.files("selbench") / "claims"))
    found = [claim for path in sorted(folder.glob("*.toml")) for claim in load_claims(path)]
    return sorted(found, key=lambda claim: (claim.id[0], int(claim.id[1:])))


def load_claims(path: Path) -> list[Claim]:
    """Read a file of claims.

    Raises:
        SelbenchError: for a missing or malformed file, an unknown key, an invalid test, or an id
            used more than once.
    """
    content = read_toml(path)
    try:
        claims = ClaimFile.model_validate(content).claim
    except ValidationError as problem:
        raise SelbenchError(f"{path}: {_first_problem(problem, content)}") from problem
    ids = [claim.id for claim in claims]
    for name in ids:
        if ids.count(name) > 1:
            raise SelbenchError(f"{path}: the id {name} is used for {ids.count(name)} claims")
    return list(claims)


def chosen(claims: Sequence[Claim], names: Sequence[str] | None) -> list[Claim]:
    """Return the claims with these ids, without repeats; None selects all."""
    if names is None:
        return list(claims)
    by_id = {claim.id: claim for claim in claims}
    for name in names:
        if name not in by_id:
            raise unknown("claim", name, by_id)
    return [by_id[name] for name in dict.fromkeys(names)]


def _first_problem(problem: ValidationError, content: dict[str, Any]) -> str:
    error = first_problem(problem)
    loc = error["loc"]
    where = _place(loc, content)
    if error["type"] == "extra_forbidden":
        return f"{where}{unknown('key', str(loc[-1]), _model(loc[:-1]).model_fields)}"
    if error["type"] == "union_tag_invalid":
        return f"{where}{unknown('kind of test', str(error['ctx']['tag']), KINDS)}"
    key = ".".join(str(part) for part in (loc[2:] if where else loc) if part not in KINDS)
    if error["type"] in ("missing", "union_tag_not_found"):
        name = "kind" if error["type"] != "missing" else str(loc[-1])
        return f"{where}the key {name} is missing"
    return f"{where}{key}: {error['msg']}".replace(": : ", ": ")


def _place(loc: tuple[int | str, ...], content: dict[str, Any]) -> str:
    """Name the claim that has a problem, by its id if it has one."""
    if len(loc) < 2 or not isinstance(loc[1], int):
        return ""
    claim = content["claim"][loc[1]]
    name = claim.get("id") if isinstance(claim, dict) else None
    return f"claim {name if isinstance(name, str) else loc[1] + 1}: "


def _model(loc: Sequence[int | str]) -> type[BaseModel]:
    """Return the model that defines the keys at a place of the file."""
    model: type[BaseModel] = ClaimFile
    for part in loc:
        if part in KINDS:
            model = KINDS[str(part)]
        elif part == "claim":
            model = Claim
        elif isinstance(part, str) and part in model.model_fields and part != "tests":
            annotation = model.model_fields[part].annotation
            found = get_args(annotation) if isinstance(annotation, UnionType) else (annotation,)
            model = next(each for each in found if isinstance(each, type))
    return model
