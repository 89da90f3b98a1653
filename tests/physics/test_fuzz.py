"""Random models against C MuJoCo; `python -m tests.physics.fuzz` runs larger ones."""

import pytest

from tests.physics import fuzz


def agrees(seed: int, most: int | None = None) -> None:
    worst = fuzz.run(seed, most)
    assert {name: error for name, error in worst.items() if not error < fuzz.BOUND} == {}


@pytest.mark.parametrize("seed", [*range(7), *range(8, 21)])  # 7 takes as long as five others
def test_a_small_model_is_c_s(seed: int):
    agrees(seed, most=3)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(1000, 1500))
def test_a_model_is_c_s(seed: int):
    agrees(seed)
