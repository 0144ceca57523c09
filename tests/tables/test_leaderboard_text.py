"""What people name things stands in every format as text."""

import json
from html.parser import HTMLParser
from io import StringIO

import pandas as pd
import pytest
from studies import write_study

from selbench._kit.printable import markdown
from selbench.tables import leaderboard
from selbench.tables.formats import FORMATS, latex

NAMES = [
    "<script>alert(1)</script>.th",
    'a|b & "c" <b>.th',
    r"my_net \section{50%} #1 $x^2~y$.th",
    "[x] *star* `code` [link](http://x).th",
    "two\nlines\x1b[2J.th",
]


@pytest.fixture(scope="module")
def board(tmp_path_factory):
    root = tmp_path_factory.mktemp("text") / "<i>runs"
    return leaderboard(write_study(root, "<u>study|", brought=NAMES))


class Text(HTMLParser):
    """Collects the tags of a page, and its text."""

    def __init__(self):
        super().__init__()
        self.tags, self.cells, self.inside = set(), [], ""

    def handle_starttag(self, tag, attrs):
        self.tags.add(tag)
        self.inside = tag

    def handle_data(self, data):
        if self.inside == "td":
            self.cells.append(data)


def test_html_has_only_its_own_tags(board):
    page = Text()
    page.feed(FORMATS["html"]([board]))
    own = {"section", "h2", "table", "thead", "tbody", "tr", "th", "td", "p", "caption"}
    assert page.tags <= own
    assert set(NAMES[:4]) <= set(page.cells)


def test_markdown_keeps_its_columns(board):
    text = FORMATS["md"]([board])
    assert "<" not in text
    assert text.startswith("### &lt;u&gt;study\\|\n")
    table = [line for line in text.splitlines() if line.startswith("|")]
    widths = {line.replace("\\|", "").count("|") for line in table[: 4 + len(NAMES)]}
    assert len(widths) == 1
    assert len([line for line in table if ".th" in line]) == 2 * len(NAMES)  # two tables
    assert r"\[x\] \*star\* \`code\` \[link\](http://x).th" in text


def test_latex_has_only_its_own_commands(board):
    text = FORMATS["latex"]([board])
    bare = "\n".join(line for line in text.splitlines() if not line.startswith("%"))
    assert r"\textbackslash{}section\{50\%\} \#1 \$x\textasciicircum{}2\textasciitilde{}y\$" in bare
    assert r"\textless{}script\textgreater{}alert(1)" in bare
    assert r"a\textbar{}b \&" in bare
    assert "{[}x] {*}star{*}" in bare  # not what a line break takes for its argument
    assert bare.count(r"\begin{tabular}") == bare.count(r"\end{tabular}") == 2


def test_a_name_of_two_lines_stays_in_its_line(board):
    for name in ("md", "latex"):
        assert "\x1b" not in FORMATS[name]([board])
        assert any("two lines" in line for line in FORMATS[name]([board]).splitlines())


def test_data_formats_keep_names_as_they_are(board):
    table = pd.read_csv(StringIO(FORMATS["csv"]([board])), keep_default_na=False)
    assert set(NAMES) <= set(table["subject"])
    (content,) = json.loads(FORMATS["json"]([board]))
    assert set(NAMES) <= {row["subject"] for row in content["rows"]}


def test_json_has_full_numbers_and_null(tmp_path):
    board = leaderboard(write_study(tmp_path, seeds=(0, 1, 3)))
    (content,) = json.loads(FORMATS["json"]([board]))
    first, table = content["rows"][0], board.table.iloc[0]
    assert first["mca"] == table["mca"]
    assert first["clean_interval"] == table["clean_interval"]
    assert first["jacobian"] is None
    assert (first["networks"], first["images"], first["mca_n"], first["jacobian_n"]) == (
        3,
        10,
        3,
        0,
    )


def test_the_command_prints_names_as_text(tmp_path, selbench):
    write_study(tmp_path / "runs", brought=[NAMES[0], NAMES[4]])
    out = selbench("leaderboard").out
    assert "\x1b" not in out
    assert "<script>alert(1)" in " ".join(out.split())


def test_escapes_leave_plain_text_alone():
    for escape in (markdown, latex):
        assert escape("alpha = -0.5 (2 of 3); 97.1 ").strip() == "alpha = -0.5 (2 of 3); 97.1"
