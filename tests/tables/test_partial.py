"""An index that covers a part of a network's activations is marked wherever it is shown."""

import pytest
from torch import nn

import selbench as package
from selbench._kit.errors import SelbenchError
from selbench.datasets import load_dataset
from selbench.store import StudyStore
from selbench.study import load_study
from selbench.tables import leaderboard
from selbench.tables.formats import FORMATS
from selbench.tables.ranking import arranged


def network(act):
    layers = [nn.Conv2d(3, 4, 3, stride=2), nn.ReLU(), nn.Conv2d(4, 4, 3, stride=2), act]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 3)).eval()


@pytest.fixture
def digits(tiny_study):
    return load_dataset(load_study(str(tiny_study)).dataset)


def test_an_index_of_some_of_the_activations_is_marked_and_said_once(digits, tmp_path, recwarn):
    for name, act in (("mixed", nn.GELU()), ("plain", nn.ReLU())):
        rows = package.evaluate(
            network(act),
            digits,
            ["clean", "selectivity"],
            name=name,
            store=tmp_path,
            limit=20,
            corruptions=["fog"],
        )
        missed = rows[rows["metric"] == "activations_missed_gelu"]["value"].tolist()
        assert missed == ([1.0] if name == "mixed" else [])
    told = [str(each.message) for each in recwarn if "are analysed" in str(each.message)]
    assert told[0].startswith("1 of 2 activations are analysed; not gelu in ")
    assert len(set(told)) == 1
    (study,) = (each.parent for each in tmp_path.glob("*/manifest.json"))
    board = leaderboard(StudyStore(tmp_path, study.name))
    assert "* the selectivity of mixed covers 1 of 2 activations, not gelu" in board.caption
    for columns, marks in ((["selectivity"], 1), (["null", "selectivity"], 2), (["clean"], 0)):
        chosen = FORMATS["html"]([arranged(board, columns)])
        assert chosen.count("*</td>") == marks
        assert ("1 of 2 activations" in chosen) == bool(marks)
    marked = FORMATS["html"]([board])
    (line,) = [
        each for each in marked.splitlines() if "<td>mixed</td>" in each and "*</td>" in each
    ]
    assert line.count("*</td>") == 2  # the index and its null
    assert not [each for each in marked.splitlines() if "<td>plain</td>" in each and "*<" in each]
    assert "1 of 2 activations, not gelu" in FORMATS["csv"]([board])


@pytest.mark.soak
def test_layers_name_what_evaluate_looks_at(digits):
    rows = package.evaluate(
        network(nn.Sigmoid()), digits, "dimensionality", limit=20, corruptions=["fog"], layers="^0$"
    )
    clean = rows[(rows["suite"] == "dimensionality") & rows["layer"].notna()]
    assert set(clean["layer_name"]) == {"0"}
    assert set(clean["source"]) == {"original; layers ^0$"}
    message = r"^layers='\*': is no regular expression"
    with pytest.raises(SelbenchError, match=message):
        package.evaluate(network(nn.ReLU()), digits, "dimensionality", layers="*")
