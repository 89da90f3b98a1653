"""Every stage before the constraints, against what mjData holds."""

import numpy as np
import pytest

from tests import oracles
from tests.physics.harness import Run, close, run

FIELDS = (
    "xpos", "xquat", "xipos", "site_xpos", "subtree_com", "cinert", "cvel", "cdof", "qfrc_bias",
    "qfrc_passive", "qfrc_actuator", "qfrc_smooth", "qacc_smooth", "actuator_force",
)  # fmt: skip


@pytest.fixture(params=oracles.BRAX_MODELS)
def robot(request) -> Run:
    return run(request.param)


@pytest.mark.parametrize("field", FIELDS)
def test_field_equals_mjdata(robot: Run, field: str):
    actual = getattr(robot.derived, field)
    expected = oracles.field(robot.sample.before, field).reshape(actual.shape)
    if field in ("cinert", "cvel"):  # MuJoCo leaves the world's own entries unset
        actual, expected = actual[:, 1:], expected[:, 1:]
    close(actual, expected)


def test_rotation_matrices_equal_mjdata(robot: Run):
    close(
        robot.derived.xmat.reshape(-1, 9), oracles.field(robot.sample.before, "xmat").reshape(-1, 9)
    )


def test_mass_matrix_equals_mjdata(robot: Run):
    lower = robot.derived.mass_matrix
    assert not np.triu(lower, 1).any()
    m = robot.model.mj
    close(lower, [np.tril(oracles.mass_matrix(m, d)) for d in robot.sample.before])


def test_the_sample_is_worth_testing_on(robot: Run):
    """Falls, joint limits and contacts are in it, wherever the robot can have them."""
    data = robot.sample.before
    assert (np.abs(robot.sample.qvel).max(0) > 0.1).all()
    assert any(d.nefc > 4 * d.ncon for d in data)  # limits
    if robot.model.topology.pairs:
        assert sum(d.ncon > 0 for d in data) > len(data) / 4
        assert any(d.nefc > 4 * d.ncon > 0 for d in data)  # both at once
