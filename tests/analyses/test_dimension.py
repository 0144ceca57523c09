"""Known dimensions: of Gaussian data with a given spectrum, of cubes, of points that coincide."""

import math

import pytest
import torch

from selbench._kit.errors import SelbenchError
from selbench.analyses.dimension import (
    FRACTIONS,
    Scatter,
    components,
    dimension_of_ratios,
    participation_ratio,
    spectrum_of,
    two_nn,
)


def with_spectrum(samples, columns, variances, seed=0):
    """Make points whose sample covariance has exactly these eigenvalues, off the origin."""
    generator = torch.Generator().manual_seed(seed)
    raw = torch.randn(samples, len(variances), generator=generator, dtype=torch.float64)
    raw -= raw.mean(0)
    white = torch.linalg.qr(raw).Q * math.sqrt(samples - 1)
    axes = torch.linalg.qr(torch.randn(columns, columns, generator=generator).double()).Q
    offset = torch.randn(columns, generator=generator).double()
    scales = torch.tensor(variances, dtype=torch.float64).sqrt()
    return (white * scales) @ axes[: len(variances)] + 5 * offset


@pytest.mark.parametrize("samples", [400, 25])  # the covariance's side, and the products' side
@pytest.mark.parametrize(
    ("variances", "counts"),
    [
        ([1.0] * 20, (18, 19, 20)),  # 18/20 and 19/20 lie on the bound itself
        ([90.0, 5, 4, 1], (1, 2, 3)),
        ([89.0, 5, 4, 2], (2, 3, 4)),
        ([3.0], (1, 1, 1)),
    ],
)
def test_data_of_known_rank_and_spectrum_has_so_many_components(samples, variances, counts):
    points = with_spectrum(samples, 40, variances)
    spectrum = spectrum_of(points)
    top = torch.tensor(variances, dtype=torch.float64)
    torch.testing.assert_close(spectrum[: len(variances)], top)
    assert tuple(components(spectrum, fraction) for fraction in FRACTIONS) == counts


def test_the_scatter_of_batches_is_the_covariance_whatever_their_sizes():
    points = torch.rand(500, 7, generator=torch.Generator().manual_seed(1)) + 1000
    expected = torch.linalg.eigvalsh(points.double().T.cov()).flip(0)
    for size in (1, 7, 500):
        scatter = Scatter(7, torch.device("cpu"))
        for batch in points.split(size):
            scatter.add(batch)
        torch.testing.assert_close(scatter.spectrum(), expected, rtol=1e-9, atol=0)


def test_participation_ratio_counts_equal_components():
    assert participation_ratio(torch.ones(13, dtype=torch.float64)) == pytest.approx(13)
    assert participation_ratio(torch.tensor([5.0, 0, 0]).double()) == pytest.approx(1)
    assert participation_ratio(torch.tensor([2.0, 1]).double()) == pytest.approx(9 / 5)


def test_participation_ratio_of_isotropic_data_is_its_dimension():
    generator = torch.Generator().manual_seed(2)
    points = torch.randn(20000, 12, generator=generator, dtype=torch.float64)
    assert participation_ratio(spectrum_of(points)) == pytest.approx(12, rel=0.01)


@pytest.mark.parametrize("samples", [10, 3])
def test_points_that_do_not_vary_have_no_dimension(samples):
    points = torch.full((samples, 5), 0.1)
    spectrum = spectrum_of(points)
    assert [components(spectrum, fraction) for fraction in FRACTIONS] == [0, 0, 0]
    assert participation_ratio(spectrum) == 0
    assert two_nn(points).dimension == 0


def test_one_point_has_no_covariance():
    with pytest.raises(SelbenchError, match=r"^dimensionality needs at least 2 samples, got 1$"):
        spectrum_of(torch.ones(1, 4))


def cube(samples, dimension, seed):
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(samples, dimension, generator=generator, dtype=torch.float64)


def periodic_ratios(points):
    """Return r2 / r1 in a cube whose opposite sides are one, so that it has no border."""
    squares = torch.zeros(len(points), len(points), dtype=torch.float64)
    for column in points.T:
        apart = (column[:, None] - column).abs()
        squares += torch.minimum(apart, 1 - apart) ** 2
    squares.fill_diagonal_(torch.inf)
    nearest = squares.topk(2, largest=False).values.sqrt()
    return nearest[:, 1] / nearest[:, 0]


@pytest.mark.parametrize("dimension", [2, 5, 10])
@pytest.mark.sample
def test_two_nn_finds_the_dimension_of_a_cube_without_a_border(dimension):
    found = [dimension_of_ratios(periodic_ratios(cube(1500, dimension, s))) for s in range(4)]
    assert sum(found) / 4 == pytest.approx(dimension, rel=0.05)


@pytest.mark.parametrize(("dimension", "bias"), [(2, 0.04), (5, 0.08), (10, 0.16)])
def test_a_border_takes_a_known_share_off_two_nn(dimension, bias):
    found = [two_nn(cube(2500, dimension, s)).dimension for s in range(3)]
    mean = sum(found) / 3
    assert dimension * (1 - bias) < mean < dimension * 1.02


def test_two_nn_does_not_see_the_columns_that_points_lie_in():
    flat = cube(800, 3, 5)
    generator = torch.Generator().manual_seed(6)
    axes = torch.linalg.qr(torch.randn(50, 50, generator=generator, dtype=torch.float64)).Q
    embedded = flat @ axes[:3] + 1000
    assert two_nn(embedded).dimension == pytest.approx(two_nn(flat).dimension, rel=1e-6)


# From scikit-dimension 0.5.0, skdim.id.TwoNN().fit(points).dimension_
SCIKIT_DIMENSION = {
    (300, 2): 2.2439380810379426,
    (300, 5): 4.376622357829782,
    (800, 10): 8.1247850668969,
}


@pytest.mark.parametrize(("samples", "dimension"), SCIKIT_DIMENSION)
def test_two_nn_equals_scikit_dimension(samples, dimension):
    found = two_nn(cube(samples, dimension, samples)).dimension
    assert found == pytest.approx(SCIKIT_DIMENSION[samples, dimension], rel=1e-9)


def test_two_nn_equals_scikit_dimension_where_that_is_installed():
    skdim = pytest.importorskip("skdim", reason="scikit-dimension is not installed")
    points = cube(500, 6, 7)
    expected = skdim.id.TwoNN().fit(points.numpy()).dimension_
    assert two_nn(points).dimension == pytest.approx(expected, rel=1e-9)


def test_each_place_counts_once_however_many_points_lie_there():
    points = cube(400, 4, 8)
    found = two_nn(torch.cat([points, points[:100], points[:50]]))
    assert found.duplicates == 150
    assert found.dimension == pytest.approx(two_nn(points).dimension, rel=1e-12)


def test_fewer_than_three_places_have_no_dimension():
    assert two_nn(torch.tensor([[0.0], [1], [1], [0]])).dimension == 0


def test_a_grid_s_neighbours_are_equally_far():
    grid = torch.cartesian_prod(torch.arange(6.0), torch.arange(6.0))
    assert two_nn(grid).dimension == math.inf


def test_two_nn_does_not_depend_on_order_or_scale():
    points = cube(600, 3, 9)
    shuffled = points[torch.randperm(600, generator=torch.Generator().manual_seed(1))]
    assert two_nn(7e3 * shuffled).dimension == pytest.approx(two_nn(points).dimension, rel=1e-9)


@pytest.mark.parametrize("measure", [spectrum_of, two_nn])
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_points_that_are_not_finite_are_refused(measure, value):
    points = torch.rand(20, 3)
    points[4, 1] = value
    with pytest.raises(ValueError, match="points must be finite, some are NaN or infinite"):
        measure(points)


@pytest.mark.parametrize("fraction", [0.0, -0.5, 1.01, float("nan")])
def test_a_fraction_of_no_variance_or_more_than_all_is_refused(fraction):
    with pytest.raises(ValueError, match="must be above 0 and at most 1, got"):
        components(torch.tensor([2.0, 1.0], dtype=torch.float64), fraction)
