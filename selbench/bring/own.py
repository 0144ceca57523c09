"""selbench's own architectures, with weights from a file."""

from torch import nn

from selbench.bring.brought import NetworkSpec
from selbench.bring.inputs import Inputs
from selbench.bring.zoo import ZOOS, Resolved, built, refuse
from selbench.datasets import Dataset
from selbench.errors import SelbenchError
from selbench.models import build_model, options_of, recognised_options
from selbench.study import ModelSpec


@ZOOS
def selbench(name: str, brought: NetworkSpec, dataset: Dataset, classes: int | None) -> Resolved:
    """Architectures of `selbench list`, with --weights; shortcuts and width are seen from these."""
    spec = ModelSpec(name=name, mean=brought.mean, std=brought.std)
    known = options_of(name)
    if brought.weights is None:
        raise SelbenchError(
            f"{brought.spec} has no weights; give a file with --weights, or train a study with "
            "`selbench run STUDY`"
        )
    seen = recognised_options(brought.weights)
    options = {option: value for option, value in seen.items() if option in known}
    return of_study(spec.model_copy(update={"options": options}), brought, dataset, classes)


def of_study(
    spec: ModelSpec, brought: NetworkSpec, dataset: Dataset, classes: int | None
) -> Resolved:
    """Build what a study describes, and fill it with the user's weights."""
    assert brought.weights is not None
    what = brought.spec or str(brought.weights)
    refuse(what, pretrained=brought.pretrained, threat_model=brought.threat_model)

    def make(number: int | None) -> nn.Module:
        return build_model(spec, number or len(dataset.classes), dataset.moments)

    model = built(make, brought.weights, classes)
    for name, given in (("mean", brought.mean), ("std", brought.std)):
        carried = model.get_buffer(f"normalize.{name}").flatten()
        if given is not None and not carried.allclose(carried.new_tensor(given), atol=1e-4):
            raise SelbenchError(
                f"{brought.weights} carries the {name} {carried.tolist()}, not {list(given)}; "
                "leave the normalisation to it"
            )
    return Resolved(model, Inputs(), "", spec.name)
