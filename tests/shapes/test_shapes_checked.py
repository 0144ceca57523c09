"""The check of shapes that all tests run with finds what is wrong, however often it was right."""

from collections.abc import Callable

import beartype
import pytest
import torch
from checked import checked
from jaxtyping import Float, TypeCheckError
from torch import Tensor

check = checked(typechecker=beartype.beartype)


@check
def joined(one: Float[Tensor, "n c"], other: Float[Tensor, "n c"]) -> Float[Tensor, "n 2*c"]:
    return torch.cat([one, other], 1)


@check
def kept(values: Float[Tensor, " n"]) -> Float[Tensor, " n"]:
    return values[values >= 0]


@check
def first(names: list[str], sizes: tuple[Float[Tensor, " n"], Float[Tensor, " n"]]) -> str | None:
    return names[0] if sizes[0].sum() else names


@check
def square(size: int) -> Float[Tensor, "{size} {size}"]:
    return torch.zeros(size, 3)


def test_arguments_are_checked_after_calls_that_were_right():
    for rows in (2, 2, 3):
        assert joined(torch.ones(rows, 4), torch.ones(rows, 4)).shape == (rows, 8)
    for other in (torch.ones(3, 4), torch.ones(2, 5), torch.ones(2, 4, dtype=torch.int64), "ones"):
        with pytest.raises(TypeCheckError, match=r"checking the parameters of .*joined"):
            joined(torch.ones(2, 4), other)


def test_results_are_checked_after_calls_that_were_right():
    right = torch.ones(3)
    for _ in range(2):
        assert kept(right) is not None
        with pytest.raises(TypeCheckError, match=r"checking the return value of .*kept"):
            kept(torch.tensor([1.0, -1.0, 1.0]))


def test_what_lies_in_lists_and_tuples_is_checked():
    one, none = torch.ones(2), torch.zeros(2)
    for _ in range(2):
        assert first(["a"], (one, one)) == "a"
        with pytest.raises(TypeCheckError, match="return value"):
            first(["a"], (none, one))
        with pytest.raises(TypeCheckError, match="parameters"):
            first(["a"], (one, torch.ones(3)))
        with pytest.raises(TypeCheckError, match="parameters"):
            first([1], (one, one))


def test_sizes_that_are_arguments_are_checked_each_time():
    assert square(3).shape == (3, 3)
    with pytest.raises(TypeCheckError, match="return value"):
        square(2)


def test_functions_without_shapes_are_left_alone():
    def plain(names: list[str], size: int | None) -> str: ...

    def shaped(each: Callable[[list[Float[Tensor, " n"]]], int] | None) -> str: ...

    for function in (plain, shaped):
        function.__qualname__ = function.__name__
    assert check(plain) is plain
    assert check(shaped) is not shaped
