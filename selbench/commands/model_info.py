"""The command `selbench model-info`: what RobustBench keeps of a network, from a store."""

from pathlib import Path
from typing import Annotated

import typer

from selbench._kit.errors import SelbenchError
from selbench.commands.options import Force, Store, expanded, grouped, say
from selbench.commands.picking import PICKS, PickOptions, pick


@grouped
def model_info(
    study: Annotated[
        str | None, typer.Argument(help="A study of the store; needed if it has several.")
    ] = None,
    subject: Annotated[str | None, typer.Option(help="The network, if there are several.")] = None,
    threat_model: Annotated[
        str, typer.Option(help="corruptions, or Linf and L2, which need --suite attacks-strong.")
    ] = "corruptions",
    output: Annotated[
        Path, typer.Option("--output", "-o", help="The folder of RobustBench's files.")
    ] = Path("model_info"),
    store: Store = Path("runs"),
    options: PickOptions = PICKS,
    limit: Annotated[
        int | None, typer.Option(min=1, help="Use the runs with this --limit.")
    ] = None,
    force: Force = False,
) -> None:
    """Write a network's numbers in the format of RobustBench's model_info.

    Add authors, venue and additional data yourself: selbench does not know them.
    """
    from selbench._kit.files import write_json
    from selbench._kit.outputs import MODEL_INFO, check_file, check_folder
    from selbench.store import open_studies
    from selbench.tables.model_info import model_info as derive

    output = expanded(output) or output
    check_folder(output, "--output")
    studies = pick(options, open_studies(store, study))
    if len(studies) > 1:
        names = ", ".join(each.study for each in studies)
        raise SelbenchError(f"the store {store} holds the studies {names}; name one of them")
    info = derive(studies[0], threat_model, subject, limit)
    path = output / info.path
    check_file(path, MODEL_INFO, "--output", force)
    write_json(path, info.fields, "--output")
    say(f"{path} describes for RobustBench {info.fields['architecture']}")
