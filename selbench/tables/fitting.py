"""Leaderboards on terminals: as few tables as fit its lines, and names shortened in the middle."""

from collections.abc import Iterator, Mapping, Sequence

from rich.cells import cell_len, chop_cells

from selbench.tables.columns import WIDE
from selbench.tables.lines import FLAGS, RANK, Lines, tables
from selbench.tables.table import Leaderboard

USUAL = 80  # characters of a line
PART = 3  # names take this part of a line at most
LEAST = 9  # characters that are left of a name
FLAGGED = 18  # characters of a line of flags, which are wrapped
DOTS = "…"


def fitting(board: Leaderboard, width: int = USUAL) -> list[tuple[str, Lines]]:
    """Return tables with their titles, whose lines take up to `width` characters if these can.

    Neighbours share a table where that fits; one that is too wide goes on in another.
    """
    made = tables(board, narrow=True)
    place = 1 if RANK in board.table else 0  # of names
    for lines in made.values():
        names = shortened([line[place] for line in lines[1:]], max(width // PART, LEAST))
        for line, name in zip(lines[1:], names, strict=True):
            line[place] = name
    first = place + 2  # columns that every table begins with, the number of networks the last
    return [
        (title if not number else f"{title}, continued".removeprefix(", "), part)
        for section in _sections(made)
        for title, lines in _packed({each: made[each] for each in section}, first, width)
        for number, part in enumerate(_split(lines, first, width))
    ]


def shortened(names: Sequence[str], most: int) -> list[str]:
    """Return names of up to `most` characters, those that are longer without their middle.

    More of their ends is kept where they would become alike else; if that does not suffice, they
    stay as they are.
    """
    for tail in range((most - 1) // 2, most - 1):
        found = [_shortened(name, most, tail) for name in names]
        if len({*found}) == len({*names}):
            return found
    return [*names]


def _shortened(name: str, most: int, tail: int) -> str:
    """Return a name of up to `most` characters, `tail` of them from its end."""
    if cell_len(name) <= most:
        return name
    begin, end = chop_cells(name, most - 1 - tail)[0], chop_cells(name[::-1], tail)[0][::-1]
    return f"{begin}{DOTS}{end}"


def _sections(made: Mapping[str, Lines]) -> Iterator[list[str]]:
    """Yield titles of tables that may share one."""
    known = {title for parts in WIDE.values() for title in parts}
    for parts in WIDE.values():
        yield [title for title in parts if title in made]
    yield from ([title] for title in made if title not in known)


def _packed(parts: Mapping[str, Lines], first: int, width: int) -> list[tuple[str, Lines]]:
    """Return parts in as few tables as fit; the one with the main columns, "", comes first."""
    packs: list[tuple[list[str], Lines]] = []
    for title, lines in parts.items():
        if packs:
            titles, before = packs[-1]
            pairs = zip(before, lines, strict=True)
            joined = [[*one, *other[first:]] for one, other in pairs]
            if _width(joined) <= width:
                packs[-1] = ([*titles, title], joined)
                continue
        packs.append(([title], lines))
    named = [("" if "" in titles else ", ".join(titles), lines) for titles, lines in packs]
    return sorted(named, key=lambda pack: pack[0] != "")


def _split(lines: Lines, first: int, width: int) -> Iterator[Lines]:
    """Yield a table in parts that fit, each with the first columns."""
    begin, count = first, len(lines[0])
    while begin < count:
        end = begin + 1
        while end < count and _width(_columns(lines, first, begin, end + 1)) <= width:
            end += 1
        yield _columns(lines, first, begin, end)
        begin = end


def _columns(lines: Lines, first: int, begin: int, end: int) -> Lines:
    return [[*line[:first], *line[begin:end]] for line in lines]


def _width(lines: Lines) -> int:
    """Return how many characters the lines of a table take, a space between columns included."""
    columns = list(zip(*lines, strict=True))
    widths = [max(map(cell_len, column)) for column in columns]
    flags = [
        FLAGGED if column[0] == FLAGS else each
        for column, each in zip(columns, widths, strict=True)
    ]
    return sum(map(min, widths, flags)) + len(columns) - 1
