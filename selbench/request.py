"""The request of a run, from the command line to the engine and the manifest."""

from collections.abc import Sequence, Set
from typing import Annotated, Literal

from pydantic import Field

from selbench._kit.errors import SelbenchError
from selbench._kit.frozen import Frozen

MOST_DRAWS = 1000  # of a random network, for one gradient


class Request(Frozen):
    """The request of a run, in addition to its study.

    Attributes:
        suites: their names; () for the study's.
        limit: number of test images, in the class proportions of the data set; None for all.
        corruptions, attacks: the names selected from the suites; () for all.
        save: the number of images whose adversarials are stored.
        retry: evaluate failed cells again.
        full: run AutoAttack at every epsilon.
        time_limit: seconds that a network may compute for a cell; None for no limit.
        pixels: "uint8" for adversarials of 8-bit pixels; None for any numbers.
        eot: number of draws of a random network whose mean is attacked; None for no mean.
        adversarials: the paths of adversarials from elsewhere.
        study: the words of the command line that name the study and its data.
        networks: the words that name users' networks; () if the study's are trained.
    """

    suites: tuple[str, ...] = ()
    limit: Annotated[int, Field(ge=1)] | None = None
    corruptions: tuple[str, ...] = ()
    attacks: tuple[str, ...] = ()
    save: Annotated[int, Field(ge=0)] = 0
    retry: bool = False
    # Left out by default, so that old manifests do not change.
    full: bool = Field(default=False, exclude_if=lambda asked: not asked)
    time_limit: Annotated[float, Field(gt=0)] | None = Field(
        default=None, exclude_if=lambda seconds: seconds is None
    )
    pixels: Literal["uint8"] | None = Field(default=None, exclude_if=lambda kind: kind is None)
    eot: Annotated[int, Field(ge=2)] | None = Field(
        default=None, exclude_if=lambda draws: draws is None
    )
    adversarials: tuple[str, ...] = Field(default=(), exclude_if=lambda paths: not paths)
    study: tuple[str, ...] = ()
    networks: tuple[str, ...] = ()

    def words(self, study: str, trained: bool) -> list[str]:
        """Return the words that name a study and its networks in a command.

        Args:
            study: its name, if the request has no words for it.
            trained: whether the study's trained networks are included.
        """
        brought = [] if trained else self.networks
        named = self.study[:1] if self.study and not self.study[0].startswith("-") else ()
        name = named or (() if "--model" in brought else (study,))
        return [*name, *self.study[len(named) :], *brought]


ANYTHING = Request()


def chosen_pixels(word: str | None, option: str = "--pixels") -> Literal["uint8"] | None:
    """Return the kind of pixels that `option` requests; raise `SelbenchError` for other words."""
    if word not in (None, "uint8"):
        raise SelbenchError(
            f"{option} takes uint8 (images that a file can hold), got {word!r:.60}; leave it out "
            "for any numbers in [0, 1]"
        )
    return word  # type: ignore[return-value]


def chosen_draws(
    draws: object, pixels: str | None, option: str = "--eot", other: str = "--pixels"
) -> int | None:
    """Return the number of draws that `option` requests; refuse others, and `other` with it.

    Raises:
        SelbenchError: for anything but None and whole numbers from 2 to `MOST_DRAWS`.
    """
    if draws is None:
        return None
    if not isinstance(draws, int) or isinstance(draws, bool) or not 2 <= draws <= MOST_DRAWS:
        raise SelbenchError(
            f"{option} takes a number of draws from 2 to {MOST_DRAWS}, such as 20, got "
            f"{draws!r:.60}"
        )
    if pixels is not None:
        raise SelbenchError(f"{option} and {other} do not go together; leave one of them out")
    return draws


def option_words(**options: object) -> tuple[str, ...]:
    """Return the words of a command line for these options; options without a value are left out.

    A flag has the value True; an option that is given several times has a list.
    """
    words: list[str] = []
    for name, value in options.items():
        option = f"--{name.replace('_', '-')}"
        if value is True:
            words.append(option)
        elif isinstance(value, list):
            words += [word for each in value for word in (option, str(each))]
        elif value is not None and value is not False:
            words += [option, str(value)]
    return tuple(words)


# For commands in manifests without a request: options that describe a study, options that name
# # users' networks, and options without a value.
OF_STUDIES = {"--data", "--source", "--scale", "--trained", "--layers", "--columns", "--estimator"}
OF_NETWORKS = {
    *("--model", "--weights", "--pretrained", "--threat-model", "--checkpoint", "--dataset"),
    *("--mean", "--std", "--input-size", "--class-map", "--entry"),
}
FLAGS = {"--pretrained", "--retry-failed", "--dry-run", "--full", "--quiet", "-q"}


def request_of(command: Sequence[str]) -> Request:
    """Return the request from the command in an earlier version's manifest.

    Only the words that name the study and its networks are read.
    """
    words = list(command[1:])
    named: list[str] = []
    study: list[str] = []
    networks: list[str] = []
    while words:
        word, *words = words
        if not word.startswith("-"):
            named = [word]
            continue
        value = [] if "=" in word or word in FLAGS else words[:1]
        words = words[len(value) :]
        option = word.split("=")[0]
        kept = study if option in OF_STUDIES else networks if option in OF_NETWORKS else []
        kept += [word, *value]
    return Request(study=(*named, *study), networks=tuple(networks))


def words_of(what: str, given: object) -> tuple[str, ...]:
    """Return a tuple of names, from a single name or several."""
    words = (given,) if isinstance(given, str) else given
    if not isinstance(words, Sequence | Set) or not all(isinstance(word, str) for word in words):
        raise SelbenchError(f"{what} is a name, or a list of names, got {given!r:.80}")
    return tuple(words)
