"""Registries: names to functions; an unknown name gets the nearest known one."""

import ast
import json
import re
from pathlib import Path

import pytest
from forked import Forked

import corruptions
import selbench
from corruptions import CORRUPTIONS
from selbench._kit.errors import SelbenchError, unknown
from selbench._kit.registry import Registry
from selbench.datasets import DATASETS, DOWNLOADS
from selbench.models import MODELS
from selbench.suites import SUITES

REGISTRIES = {"models": MODELS, "datasets": DATASETS, "downloads": DOWNLOADS, "suites": SUITES}
DOCS = Path(__file__).parents[2] / "docs"

each_registry = pytest.mark.parametrize("registry", REGISTRIES.values(), ids=REGISTRIES)


@pytest.fixture
def animals():
    registry = Registry("animal")

    @registry
    def polar_bear():
        return "white"

    @registry
    def brown_bear():
        return "brown"

    return registry


def test_function_is_found_under_its_name_with_dashes(animals):
    assert list(animals) == ["polar-bear", "brown-bear"]
    assert animals["polar-bear"]() == "white"
    assert len(animals) == 2


def test_decorated_function_stays_what_it_was():
    def cat():
        """Purr."""

    assert Registry("animal")(cat) is cat


def test_membership_raises_nothing(animals):
    assert "polar-bear" in animals
    assert "polar_bear" not in animals
    assert 7 not in animals


def test_unknown_name_gives_the_nearest(animals):
    with pytest.raises(
        SelbenchError, match=r"^unknown animal 'polar_bear'; did you mean 'polar-bear'"
    ):
        animals["polar_bear"]


def test_unknown_name_gives_all_where_none_is_near(animals):
    with pytest.raises(
        SelbenchError, match=r"^unknown animal 'ox'; known are polar-bear, brown-bear$"
    ):
        animals["ox"]


def test_unknown_name_gives_no_more_than_a_sentence_holds():
    message = str(unknown("number", "x", [f"{number:03}" for number in range(1000)]))
    assert message.endswith("028, 029 and 970 others")


def test_name_is_given_once(animals):
    def polar_bear():
        return "grey"

    with pytest.raises(ValueError, match="two animals are named 'polar-bear'"):
        animals(polar_bear)
    assert animals["polar-bear"]() == "white"


def test_unknown_is_an_error_to_be_raised():
    assert isinstance(unknown("suite", "x", ["y"]), SelbenchError)


@each_registry
def test_every_entry_is_described_in_one_line(registry):
    assert len(registry) > 0
    for function in registry.values():
        assert function.__doc__.strip().splitlines()[0].endswith(".")


@each_registry
def test_names_are_in_lower_case_with_dashes(registry):
    assert all(name == name.lower() and "_" not in name and " " not in name for name in registry)


@each_registry
def test_every_name_is_in_the_docs(registry):
    words = set(re.findall(r"[\w-]+", "\n".join(page.read_text() for page in DOCS.glob("*.md"))))
    assert set(registry) <= words


REGISTERED = """
import json
import selbench.session
from corruptions import CORRUPTIONS
from selbench.datasets import DATASETS, DOWNLOADS
from selbench.figures import FIGURES
from selbench.models import MODELS
from selbench.suites import SUITES
registries = (DATASETS, DOWNLOADS, FIGURES, MODELS, SUITES)
functions = [each for registry in registries for each in registry.values()]
functions += [each.function for each in CORRUPTIONS.values()]
print(json.dumps([f"{each.__module__}.{each.__name__}" for each in functions]))
"""
DECORATORS = {
    "DATASETS",
    "DOWNLOADS",
    "FIGURES",
    "MODELS",
    "SUITES",
    "bar_corruption",
    "corruption",
}


def decorated(package):
    """Return the functions that a package's modules register, by the decorators in their text."""
    root = Path(package.__file__).parent
    for file in root.rglob("*.py"):
        module = ".".join(file.relative_to(root.parent).with_suffix("").parts)
        for each in ast.parse(file.read_text()).body:
            for decorator in getattr(each, "decorator_list", []):
                if getattr(getattr(decorator, "func", decorator), "id", "") in DECORATORS:
                    yield f"{module}.{each.name}"


def test_nothing_that_a_module_registers_is_left_out_of_a_run():
    code, out, err = Forked(code=REGISTERED).ended()
    assert code == 0, err
    found = {*decorated(selbench), *decorated(corruptions)}
    assert set(json.loads(out)) == found
    assert len(found) > len(CORRUPTIONS)


def test_corruptions_do_not_clash_with_suites():
    assert not set(CORRUPTIONS) & set(SUITES)
