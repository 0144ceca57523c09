"""Fit leaderboards to a terminal: few tables of limited width, and shortened names."""

from collections.abc import Iterator, Mapping, Sequence

from rich.cells import cell_len, chop_cells

from selbench.tables.columns import WIDE
from selbench.tables.lines import FLAGS, RANK, Lines, one_line, tables
from selbench.tables.table import Leaderboard

USUAL = 80  # characters of a line
PART = 3  # the largest part of a line for names
LEAST = 9  # fewest characters of a shortened name
FLAGGED = 18  # characters per line of wrapped flags
DOTS = "…"


def fitting(board: Leaderboard, width: int = USUAL) -> list[tuple[str, Lines]]:
    """Return tables with titles and lines of up to `width` characters, if possible.

    Neighbouring tables are joined if they fit; a table that is too wide is split. Long names get
    the room that the widest table leaves.
    """
    made = tables(board, narrow=True)
    place = 1 if RANK in board.table else 0  # of names
    names, most = list(map(one_line, board.table["subject"])), max(width // PART, LEAST)
    for lines in made.values():
        _name(lines, place, shortened(names, most))
    first = place + 2  # first columns of every table; the number of networks is the last
    parts = [
        (title if not number else f"{title}, continued".removeprefix(", "), part)
        for section in _sections(made)
        for title, lines in _packed({each: made[each] for each in section}, first, width)
        for number, part in enumerate(_split(lines, first, width))
    ]
    spare = min((width - _width(lines) for _, lines in parts), default=0)
    for _, lines in parts:
        _name(lines, place, shortened(names, most + max(spare, 0)))
    return parts


def _name(lines: Lines, place: int, names: Sequence[str]) -> None:
    """Write the names of a table's rows."""
    for line, name in zip(lines[1:], names, strict=True):
        line[place] = name


def shortened(names: Sequence[str], most: int) -> list[str]:
    """Return names of up to `most` characters; longer names lose their middle.

    More of their ends is kept if names would become equal; if that is not enough, names do not
    change.
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
    """Yield groups of titles whose tables may be joined."""
    known = {title for parts in WIDE.values() for title in parts}
    for parts in WIDE.values():
        yield [title for title in parts if title in made]
    yield from ([title] for title in made if title not in known)


def _packed(parts: Mapping[str, Lines], first: int, width: int) -> list[tuple[str, Lines]]:
    """Return parts in as few tables as possible; the table of the main columns, "", is first."""
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
    """Yield parts of a table that fit, each with the first columns."""
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
    """Return the characters per line of a table, with a space between columns."""
    columns = list(zip(*lines, strict=True))
    widths = [max(map(cell_len, column)) for column in columns]
    flags = [
        FLAGGED if column[0] == FLAGS else each
        for column, each in zip(columns, widths, strict=True)
    ]
    return sum(map(min, widths, flags)) + len(columns) - 1
