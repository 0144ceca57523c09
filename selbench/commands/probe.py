"""The command `selbench probe`: what is to be known of networks before they are measured."""

from typing import Annotated

import typer

from selbench.commands.naming import chosen_study, networks_named, taken
from selbench.errors import SelbenchError
from selbench.options import (
    Alphas,
    Checkpoints,
    ClassMap,
    Data,
    DatasetName,
    Device,
    Entry,
    InputSize,
    Mean,
    Models,
    Pretrained,
    Quiet,
    Seeds,
    Std,
    ThreatModel,
    Trained,
    Weights,
    say,
    shown,
    split_words,
)


def probe(
    spec: Annotated[
        str | None,
        typer.Argument(
            metavar="SPEC",
            help="A network, as for --model; or a study, such as digits, for its own networks or "
            "the data of those named by options.",
        ),
    ] = None,
    model: Models = None,
    weights: Weights = None,
    pretrained: Pretrained = False,
    threat_model: ThreatModel = None,
    checkpoint: Checkpoints = None,
    entry: Entry = None,
    trained: Trained = None,
    alpha: Alphas = None,
    seed: Seeds = None,
    mean: Mean = None,
    std: Std = None,
    input_size: InputSize = None,
    class_map: ClassMap = None,
    dataset: DatasetName = None,
    data: Data = None,
    device: Device = "auto",
    quiet: Quiet = False,
) -> None:
    """Look for habits of networks that make numbers wrong, as every run does first.

    Options name networks and data as for `selbench run`; nothing is measured or kept.
    """
    from selbench.bring import probed
    from selbench.findings import told
    from selbench.progress import SILENT
    from selbench.session import Session
    from selbench.subjects import exported

    named = spec is not None and ":" in spec
    models = [*([str(spec)] if named else []), *(model or [])]
    common = {
        "weights": weights,
        "pretrained": pretrained,
        "threat_model": threat_model,
        "mean": mean,
        "std": std,
        "input_size": input_size,
        "class_map": class_map,
        "entry": entry,
    }
    if trained and (models or checkpoint):
        raise SelbenchError(
            "--trained takes a study's own networks; leave out SPEC, --model and --checkpoint"
        )
    brought = networks_named(models, checkpoint or [], common, bool(alpha or seed))
    study = chosen_study(None if named else spec, dataset, data, bool(brought))
    alphas, seeds = split_words(alpha), split_words(seed)
    session = Session.open(study, alphas, seeds, device, data, shown(quiet))
    own = exported(trained.expanduser(), session.study, session.dataset) if trained else []
    networks = own or taken(session, brought, quiet) or session.train()
    for each in networks:
        found = probed([each], session.dataset, progress=SILENT)[0].findings
        for line in told({each.name: found}) or [f"{each.name}: no finding"]:
            say(line)
