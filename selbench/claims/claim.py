"""Claims: falsifiable hypotheses as data, with what would refute them fixed before the run.

Leavitt & Morcos, "Towards falsifiable interpretability research", 2020, arXiv:2010.12016, is why.
"""

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, model_validator

from selbench._kit.errors import unknown
from selbench._kit.files import fingerprint
from selbench._kit.frozen import Frozen
from selbench.metrics import RowFilter
from selbench.suites import METRICS, SUITES

UNKNOWN = "not known"  # a published magnitude
SIGNS = {"up": 1, "down": -1}


def _plain(text: str) -> str:
    if not text.isprintable():
        raise ValueError("must be one line of printable characters")
    return text


def makers() -> dict[str, str]:
    """Return what `selbench run --suite` makes the measurements of each suite of the store with.

    Of those that a metric reads.
    """
    read = {suite: each.suite for each in METRICS.values() for suite in each.reads.suites}
    return {name: name if name in SUITES else read[name] for name in sorted(read) if read[name]}


def _known_suite(suite: str) -> str:
    if suite not in makers():
        raise ValueError(str(unknown("suite of measurements", suite, makers())))
    return suite


def _rising(between: tuple[float, float]) -> tuple[float, float]:
    if between[0] > between[1]:
        raise ValueError("goes from the lower alpha to the higher one")
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
Scale = Literal["ratio", "log odds", "points"]  # of accuracy beside clean accuracy
SCALES: tuple[Scale, ...] = ("ratio", "log odds", "points")
Sizes = dict[Scale, Margin]  # on each scale that a test is made on


class Reading(Frozen):
    """One number of each network: its mean over levels, then over conditions.

    Attributes:
        suite, metric: columns of the store; metrics of whole networks.
        conditions: only these; none for all that every network has.
        without: not these.
        levels: only these; none for all that every network has.
        to_clean: set it beside the network's clean accuracy: "ratio" divides by it, "points" takes
            it off, "log odds" takes its log odds off those of the reading.
        log: take the natural logarithm, so that differences are shares.
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
        """What is read, at whatever level."""
        return RowFilter((self.suite,), self.metric, self.conditions, self.without)

    @property
    def points(self) -> bool:
        """Whether it is a share of images, told in percentage points."""
        return self.metric == "accuracy" and self.to_clean in (None, "points") and not self.log


class Choice(Frozen):
    """How an alpha is chosen by another reading than the one that is tested.

    Attributes:
        rule: "highest" takes the alpha with the highest mean; "share" the negative one whose mean,
            divided by that of alpha = 0, lies in `share`, and highest there.
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
    """A test; `networks`: those of the claim's that it is about, where not all."""

    networks: tuple[Line, ...] = ()


class Shape(OfNetworks):
    """A test of the slope of a reading along alpha, on each side of alpha = 0 by itself.

    Attributes:
        along: what slopes are per unit of: alpha, or the selectivity that an alpha comes to.
        scales: judge the reading beside clean accuracy, on each of these scales, with these sizes.
    """

    reading: Reading
    between: Range
    direction: Direction
    along: Literal["alpha", "selectivity"] = "alpha"
    scales: Sizes = Field(default_factory=dict)

    @model_validator(mode="after")
    def _scaled(self) -> "Shape":
        if self.scales and (self.reading.metric != "accuracy" or self.reading.to_clean):
            raise ValueError("scales are those of an accuracy beside the clean one")
        return self


class Trend(Shape):
    """The reading follows alpha, by `at_least` per unit; `strict`: at every step, in the mean.

    `each`: under each condition by itself.
    """

    kind: Literal["trend"]
    at_least: Size = 0.0
    strict: bool = False
    each: bool = False


class NoTrend(Shape):
    """The reading does not go in this direction with alpha, by more than the margin per unit."""

    kind: Literal["no_trend"]
    margin: Margin = 1.0

    @model_validator(mode="after")
    def _margined(self) -> "NoTrend":
        if not self.scales and "margin" not in self.model_fields_set:
            raise ValueError("needs a margin, or one for each of the scales")
        return self


class Against(OfNetworks):
    """A test that compares alphas with alpha = 0: all those `between`, or a chosen one."""

    reading: Reading
    between: Between | None = None
    choose: Choice | None = None

    @model_validator(mode="after")
    def _alphas(self) -> "Against":
        if (self.between is None) == (self.choose is None):
            raise ValueError("needs either between or choose")
        if self.between == (0, 0):
            raise ValueError("compares alphas with alpha = 0: between needs others")
        if self.choose and self.choose.reading == self.reading:
            raise ValueError("must not choose the alpha by the reading that it tests")
        return self


class Difference(Against):
    """The reading differs from that of alpha = 0: for all of the alphas, or for any.

    `meant`: the sentence means `at_least` ("collapses"), which then counts of any network.
    """

    kind: Literal["difference"]
    direction: Direction
    at_least: Size = 0.0
    meant: bool = False
    quantifier: Literal["all", "any"] = "all"


class Equivalence(Against):
    """The reading is that of alpha = 0, within the margin; `losses_only`: not lower.

    `published`: the change in the source, for which the test's power is given.
    """

    kind: Literal["equivalence"]
    margin: Margin
    losses_only: bool = False
    published: float = 0.0


class Within(OfNetworks):
    """The reading differs from another, `less`, of the same network.

    With a `margin` it does not, in this direction, by more than that.
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
            raise ValueError("takes at_least, or a margin for no difference")
        return self


class Method(OfNetworks):
    """Networks of another method of training differ from standard ones of like clean accuracy.

    The former are brought, and `method` is a word of their files' names; the latter are those of
    alpha = 0, or brought ones with the word "standard". `tolerance`: how far their mean clean
    accuracies may lie apart.
    """

    kind: Literal["method"]
    reading: Reading
    method: Annotated[str, Field(pattern=r"^[a-z0-9-]+$")]
    direction: Direction
    at_least: Size = 0.0
    tolerance: Margin = 0.02


class Matched(OfNetworks):
    """The reading at a positive alpha differs from that at a negative one.

    Of the pairs whose `match` goes up by the same factor as it goes down, to `tolerance` in its
    logarithm, the farthest from alpha = 0.
    """

    kind: Literal["matched"]
    reading: Reading
    match: Reading
    tolerance: Margin
    direction: Direction
    at_least: Size = 0.0


class Flags(OfNetworks):
    """No network raises a flag of masked gradients."""

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
    """A hypothesis, and all that decides about it.

    Attributes:
        sure: how sure we are that the source says so: seen there, recalled, or ours.
        published: the magnitude in the source, in words.
        networks: "model/data set" that it speaks of; none for any.
        counted_with: the claim that says nearly the same: both count once in Holm's correction.
        note: what the tests leave out, or where the size comes from.
        tests: all of them must hold.
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
        """Content hash of everything above, whatever the file's layout."""
        content: dict[str, Any] = self.model_dump(mode="json")
        return fingerprint(content)
