"""The command `selbench probe`: checks networks for defects before they are measured."""

from dataclasses import replace
from typing import Annotated

import typer

from selbench.commands.naming import chosen_study, networks_named, networks_of, opened_session
from selbench.commands.options import NETWORKS, Device, NetworkOptions, Quiet, grouped, say
from selbench.commands.remembered import check_typed


@grouped
def probe(
    spec: Annotated[
        str | None,
        typer.Argument(
            metavar="SPEC",
            help="A network, as for --model; or a study, such as digits, for its networks, or "
            "for the data of networks that options name.",
        ),
    ] = None,
    options: NetworkOptions = NETWORKS,
    device: Device = "auto",
    quiet: Quiet = False,
) -> None:
    """Look for defects of networks that make numbers wrong, as every run does first.

    Options are those of `selbench run`; nothing is measured or kept.
    """
    named = spec is not None and ":" in spec
    if named:
        options = replace(options, model=[str(spec), *(options.model or [])])
    specs = networks_named(options)
    study = chosen_study(None if named else spec, options)
    check_typed(None, None, None, options.alpha, options.seed)

    from selbench._kit.progress import SILENT  # imports torch, which takes seconds
    from selbench.networks.probe import probed
    from selbench.store.findings import finding_sentences

    session = opened_session(study, options, device, quiet)
    networks = networks_of(session, options, specs, quiet) or session.train()
    for each in networks:
        found = probed([each], session.dataset, progress=SILENT)[0].findings
        for line in finding_sentences({each.name: found}) or [f"{each.name}: no finding"]:
            say(line)
