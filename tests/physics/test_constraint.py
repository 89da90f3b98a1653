"""Constraint rows against efc_J, efc_aref and efc_D, matched whatever their order."""

# pyright: reportAttributeAccessIssue=false
# (mujoco's module has no type stubs)

import mujoco
import numpy as np
import pytest

from tests import oracles
from tests.physics.harness import Rows, run


def assert_same_rows(m: mujoco.MjModel, data: list[mujoco.MjData], rows: Rows) -> None:
    for d, J, aref, D in zip(data, *rows, strict=True):
        ours = np.column_stack([J, aref, D])[D > 0]
        theirs = np.column_stack([oracles.jacobian(m, d), d.efc_aref, d.efc_D])
        assert ours.shape == theirs.shape
        scale = 1 + np.abs(theirs).max(0, initial=0)
        apart = np.abs((ours[:, None] - theirs[None]) / scale).max(-1)
        partner = apart.argmin(1) if len(theirs) else np.zeros(0, int)
        assert (apart.min(1, initial=0 if not len(theirs) else np.inf) < 1e-9).all()
        # Twins (a planar robot's friction pyramid is flat) may share a partner, others may not.
        assert len(set(partner)) == len(np.unique(np.round(theirs / scale, 8), axis=0))


LARGE = (
    "ant",
    "half_cheetah",
    "humanoid",
    "pusher",
    "walker2d",
)  # rows of the same kinds as in others
SOME = [pytest.param(n, marks=pytest.mark.slow) if n in LARGE else n for n in oracles.BRAX_MODELS]


@pytest.mark.parametrize("name", SOME)
def test_rows_equal_mjdata(name: str):
    done = run(name)
    assert_same_rows(done.model.mj, done.sample.before, done.rows)
    top = done.model.topology
    limits, contacts = np.split((done.rows.D > 0).any(0), [len(top.limited)])
    assert limits.any()  # else the comparison said nothing
    assert contacts.any() == bool(top.pairs)
