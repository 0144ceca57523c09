"""Only representations that were looked at alike, under like corruptions, are averaged."""

import pandas as pd
import pytest

from selbench.tables.explained import comparable, explained, look, looks_of


def table(*rows):
    """Make measurements of (suite, condition, level, source, subject, value)."""
    names = ["suite", "condition", "level", "source", "subject", "value"]
    made = pd.DataFrame(rows, columns=names)
    made["group"] = ""
    made["metric"] = "change_dimension_fraction_95"
    made["layer"] = pd.Series([None] * len(made), dtype="Int64")
    made.loc[made["suite"] == "dimensionality", "metric"] = "dimension_fraction_95"
    return made


def fog(value, subject="a", source="generated", suite="representation", level=1.0, name="fog"):
    return suite, name, level, source, subject, value


def clean(source="original", subject="a"):
    return "dimensionality", "clean", None, source, subject, 0.5


def changed(rows, *given):
    return explained(rows, *given)["change_corrupted"].to_dict()


def test_units_and_flattened_maps_are_not_averaged():
    units = fog(0.2)
    maps = fog(0.8, source="generated; flattened maps", suite="representation-maps")
    assert changed(table(units, maps, clean())) == {"a": 0.2}
    assert changed(table(units, maps, clean("original; flattened maps"))) == {"a": 0.8}
    assert changed(table(units, maps)) == {"a": 0.2}


def test_layers_that_were_named_are_not_averaged_with_all():
    rows = table(fog(0.2, name="contrast"), fog(0.8, source="generated; layers x"))
    assert changed(rows) == {"a": 0.2}
    last = table(*rows.iloc[:, :6].itertuples(index=False), clean("original; layers x"))
    assert changed(last) == {"a": 0.8}


def test_only_conditions_that_all_networks_have_are_averaged():
    rows = table(fog(0.2), fog(0.9, name="snow"), fog(0.4, "b"), fog(0.6, "b", level=2.0))
    assert changed(rows) == {"a": 0.2, "b": 0.4}
    assert len(comparable(rows)) == 2


def test_the_four_extra_corruptions_count_only_when_asked_for():
    rows = table(fog(0.2), fog(0.6, name="spatter"))
    assert changed(rows) == {"a": 0.2}
    assert changed(rows, True) == {"a": pytest.approx(0.4)}
    assert changed(rows, False, ["spatter"]) == {"a": 0.6}


def test_what_is_no_representation_is_left_alone():
    rows = table(("gradients", "clean", None, "original; probes", "a", 1.0), fog(0.2), clean())
    assert len(comparable(rows)) == 3


def test_the_look_is_what_stands_after_the_origin():
    assert look("generated (procedural)") == ""
    assert look("original; layers a; b; probes") == "layers a; b; probes"
    gradients = ("gradients", "clean", None, "original; layers x; probes", "a", 1.0)
    assert looks_of(table(gradients, clean(), fog(0.1))) == ["gradients of layers x"]
