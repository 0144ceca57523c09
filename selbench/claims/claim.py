"""Claims: falsifiable hypotheses as data, with the refuting result fixed before the run.

The reason: Leavitt & Morcos, "Towards falsifiable interpretability research", 2020,
arXiv:2010.12016.
"""

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, model_validator

from selbench._kit.errors import unknown
from selbench._kit.files import fingerprint
from selbench._kit.frozen import Frozen
from selbench.metrics import RowFilter
from selbench.suites import METRICS, SUITES

UNKNOWN = "not known"  # the published size
SIGNS = {"up": 1, "down": -1}


def _plain(text: str) -> str:
    if not text.isprintable():
        raise ValueError("must be one line of printable characters")
    return text


def makers() -> dict[str, str]:
    """Return, for each suite in the store that a metric reads, the suite to run for it.

    The value is a name for `selbench run --suite`.
    """
    read = {suite: each.suite for each in METRICS.values() for suite in each.reads.suites}
    return {name: name if name in SUITES else read[name] for name in sorted(read) if read[name]}


def _known_suite(suite: str) -> str:
    if suite not in makers():
        raise ValueError(str(unknown("suite of measurements", suite, makers())))
    return suite


def _rising(between: tuple[float, float]) -> tuple[float, float]:
    if between[0] > between[1]:
        raise ValueError("needs the lower alpha first, then the higher one")
    return between


def _wide(between: tuple[float, float]) -> tuple[float, float]:
    if between[0] == between[1]:
        raise ValueError("needs two different alphas for a trend")
    return between


Line = Annotated[str, Field(min_length=1), AfterValidator(_plain)]
Direction = Literal["up", "down"]
Between = Annotated[tuple[float, float], AfterValidator(_rising)]  # alphas, both ends included
Range = Annotated[Between, AfterValidator(_wide)]
Size = Annotated[float, Field(ge=0)]  # in the reading's unit
Margin = Annotated[float, Field(gt=0)]
Scale = Literal["ratio", "log odds", "points"]  # how accuracy is compared with clean accuracy
SCALES: tuple[Scale, ...] = ("ratio", "log odds", "points")
Sizes = dict[Scale, Margin]  # the smallest size that counts, on each tested scale


class Reading(Frozen):
    """One number of each network: its mean over levels, then over conditions.

    Attributes:
        suite, metric: columns of the store; metrics of whole networks.
        conditions: use only these; empty: all that every network has.
        without: conditions to leave out.
        levels: use only these; empty: all that every network has.
        to_clean: compare with the network's clean accuracy: "ratio" divides by it, "points"
            subtracts it, "log odds" subtracts its log odds from those of the reading.
        log: use the natural logarithm, so that differences are relative.
    """

    suite: Annotated[str, AfterValidator(_known_suite)]
    metric: Line = "accuracy"
    conditions: tuple[Line, ...] = ()
    without: tuple[Line, ...] = ()
    levels: tuple[float, ...] = ()
    to_clean: Scale | None = None
    log: bool = False

    @property
    def rows(self) -> RowFilter:
        """The rows that are read, at any level."""
        return RowFilter((self.suite,), self.metric, self.conditions, self.without)

    @property
    def points(self) -> bool:
        """Whether it is a share of images, reported in percentage points."""
        return self.metric == "accuracy" and self.to_clean in (None, "points") and not self.log


class Choice(Frozen):
    """A rule that chooses an alpha by a reading other than the tested one.

    Attributes:
        rule: "highest" chooses the alpha with the highest mean. "share" divides means by that of
            alpha = 0 and chooses the negative alpha with the highest quotient within `share`.
    """

    reading: Reading
    rule: Literal["highest", "share"]
    share: Annotated[tuple[float, float], AfterValidator(_rising)] | None = None

    @model_validator(mode="after")
    def _consistent(self) -> "Choice":
        if (self.rule == "share") != (self.share is not None):
            raise ValueError('share belongs to rule = "share", which needs it')
        return self


class OfNetworks(Frozen):
    """A test; `networks`: the networks of the claim that it covers, empty for all."""

    networks: tuple[Line, ...] = ()


class Shape(OfNetworks):
    """A test of the slope of a reading along alpha, separately on each side of alpha = 0.

    Attributes:
        along: slopes are per unit of alpha, or of the selectivity that the alpha leads to.
        scales: compare the reading with clean accuracy on each of these scales, with these sizes.
    """

    reading: Reading
    between: Range
    direction: Direction
    along: Literal["alpha", "selectivity"] = "alpha"
    scales: Sizes = Field(default_factory=dict)

    @model_validator(mode="after")
    def _scaled(self) -> "Shape":
        if self.scales and (self.reading.metric != "accuracy" or self.reading.to_clean):
            raise ValueError("scales need accuracy as the metric, and no to_clean")
        return self


class Trend(Shape):
    """The reading follows alpha, by `at_least` per unit; `strict`: the means do at every step.

    `each`: test every condition separately.
    """

    kind: Literal["trend"]
    at_least: Size = 0.0
    strict: bool = False
    each: bool = False


class NoTrend(Shape):
    """The reading does not change in this direction with alpha by more than the margin per unit."""

    kind: Literal["no_trend"]
    margin: Margin = 1.0

    @model_validator(mode="after")
    def _margined(self) -> "NoTrend":
        if not self.scales and "margin" not in self.model_fields_set:
            raise ValueError("needs a margin, or one for each of the scales")
        return self


class Against(OfNetworks):
    """A test that compares alphas with alpha = 0: all alphas in `between`, or a chosen one."""

    reading: Reading
    between: Between | None = None
    choose: Choice | None = None

    @model_validator(mode="after")
    def _alphas(self) -> "Against":
        if (self.between is None) == (self.choose is None):
            raise ValueError("needs either between or choose")
        if self.between == (0, 0):
            raise ValueError("compares alphas with alpha = 0: between must contain another alpha")
        if self.choose and self.choose.reading == self.reading:
            raise ValueError("must choose the alpha by another reading than the tested one")
        return self


class Difference(Against):
    """The reading differs from that at alpha = 0: for all of the alphas, or for any.

    `meant`: the claim's sentence itself implies `at_least` ("collapses"), which then applies to
    every network.
    """

    kind: Literal["difference"]
    direction: Direction
    at_least: Size = 0.0
    meant: bool = False
    quantifier: Literal["all", "any"] = "all"


class Equivalence(Against):
    """The reading equals that at alpha = 0, within the margin; `losses_only`: is not lower.

    `published`: the change in the source; the test's power is given for it.
    """

    kind: Literal["equivalence"]
    margin: Margin
    losses_only: bool = False
    published: float = 0.0


class Within(OfNetworks):
    """The reading differs from another one, `less`, of the same network.

    With a `margin`: it does not differ in this direction by more than the margin.
    """

    kind: Literal["within"]
    reading: Reading
    less: Reading
    between: Between
    direction: Direction
    at_least: Size = 0.0
    margin: Margin | None = Field(default=None, exclude_if=lambda margin: margin is None)

    @model_validator(mode="after")
    def _two(self) -> "Within":
        if self.reading == self.less:
            raise ValueError("needs two different readings")
        if self.margin and self.at_least:
            raise ValueError("needs either at_least or a margin, not both")
        return self


class Method(OfNetworks):
    """Networks of another training method differ from standard ones of similar clean accuracy.

    The former are brought, and their file names contain the word `method`. The latter are those of
    alpha = 0, or brought ones with the word "standard". `tolerance`: the largest difference of
    their mean clean accuracies.
    """

    kind: Literal["method"]
    reading: Reading
    method: Annotated[str, Field(pattern=r"^[a-z0-9-]+$")]
    direction: Direction
    at_least: Size = 0.0
    tolerance: Margin = 0.02


class Matched(OfNetworks):
    """The reading at a positive alpha differs from that at a negative one.

    It uses the pair farthest from alpha = 0 among those whose `match` rises and falls by the same
    factor, up to `tolerance` in the logarithm.
    """

    kind: Literal["matched"]
    reading: Reading
    match: Reading
    tolerance: Margin
    direction: Direction
    at_least: Size = 0.0


class Flags(OfNetworks):
    """No network shows a sign of masked gradients."""

    kind: Literal["flags"]


Test = Trend | NoTrend | Difference | Equivalence | Within | Method | Matched | Flags
KINDS: dict[str, type[Frozen]] = {
    "trend": Trend,
    "no_trend": NoTrend,
    "difference": Difference,
    "equivalence": Equivalence,
    "within": Within,
    "method": Method,
    "matched": Matched,
    "flags": Flags,
}


class Claim(Frozen):
    """A hypothesis, and everything that decides it.

    Attributes:
        sure: how certain it is that the source says so: "seen" there, "recalled", or "ours".
        published: the size in the source, in words.
        networks: each "model/data set" that it is about; empty for any.
        counted_with: a claim that says nearly the same; Holm's correction counts both as one.
        note: what the tests leave out, or where the sizes come from.
        tests: the claim holds if all of them do.
    """

    id: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")]
    sentence: Line
    source: Line
    sure: Literal["seen", "recalled", "ours"]
    published: Line = UNKNOWN
    networks: tuple[Line, ...] = ()
    counted_with: str = ""
    note: Annotated[str, AfterValidator(_plain)] = ""
    tests: Annotated[tuple[Annotated[Test, Field(discriminator="kind")], ...], Field(min_length=1)]

    @property
    def hash(self) -> str:
        """Content hash of all fields, independent of the file's layout."""
        content: dict[str, Any] = self.model_dump(mode="json")
        return fingerprint(content)
