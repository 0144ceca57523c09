"""The command `selbench claims`: what a study's measurements say about the papers' claims."""

import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from selbench._kit.errors import unknown
from selbench.commands.options import Place, Store, expanded, opened, split_words


def claims(
    place: Place = None,
    store: Store = Path("runs"),
    format: Annotated[str, typer.Option(help="table, md or json.")] = "table",
    claim: Annotated[
        list[str] | None, typer.Option(help="Only these claims; repeat or use commas.")
    ] = None,
    claims: Annotated[
        Path | None, typer.Option(help="A TOML file of claims, instead of the papers'.")
    ] = None,
    limit: Annotated[
        int | None, typer.Option(min=1, help="Use the runs with this --limit.")
    ] = None,
) -> None:
    """Test the papers' claims on a store: supported, refuted, inconclusive or not tested.

    Files define each test and what would refute the claim; verdicts contain the tests' hashes.
    """
    from selbench.claims.formats import FORMATS, to_table
    from selbench.claims.judging import check_tested, judge_study
    from selbench.claims.sources import chosen, load_claims, shipped_claims
    from selbench.tables.current import root_of_runs

    if format not in ("table", *FORMATS):
        raise unknown("format", format, ("table", *FORMATS))
    file = expanded(claims)
    asked = chosen(load_claims(file) if file else shipped_claims(), split_words(claim))
    with opened([place] if place else [], store) as studies:
        judgements = [judge_study(each, asked, limit, root_of_runs(each)) for each in studies]
        check_tested(judgements)
        if format != "table":
            sys.stdout.write(FORMATS[format](judgements))
            return
        for found in judgements:
            Console().print(to_table(found))
