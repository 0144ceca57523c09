"""Networks that users bring: from checkpoints, model zoos or code of theirs."""

from selbench.bring import code, own, robustbench_zoo, timm_zoo, torchvision_zoo
from selbench.bring.adhoc import adhoc_study, sized, untrained_study
from selbench.bring.brought import NetworkSpec, pair
from selbench.bring.framing import framed, given_frame
from selbench.bring.logits import chosen, key_of
from selbench.bring.modules import module_of, outputs_of, own_copy
from selbench.bring.probe import probed
from selbench.bring.subject import bring, network_of
from selbench.bring.zoo import ZOOS

__all__ = [
    "ZOOS",
    "NetworkSpec",
    "adhoc_study",
    "bring",
    "chosen",
    "code",
    "framed",
    "given_frame",
    "key_of",
    "module_of",
    "network_of",
    "outputs_of",
    "own",
    "own_copy",
    "pair",
    "probed",
    "robustbench_zoo",
    "sized",
    "timm_zoo",
    "torchvision_zoo",
    "untrained_study",
]
