"""Contacts with their forces, and what they do to bodies, against mj_rnePostConstraint."""

# pyright: reportAttributeAccessIssue=false
# (mujoco's module has no type stubs)

import re

import mujoco
import numpy as np
import pytest

from gpusim import physics
from tests import oracles
from tests.physics.features import moments, stepped
from tests.physics.models import FEATURES
from tests.physics.test_coverage import exact

TOUCHING = (
    "condim 1", "condim 4", "condim 6", "elliptic", "elliptic 4", "elliptic 6", "elliptic 1",
    "sphere sphere", "capsule box", "box mesh", "explicit pair", "RK4", "PGS", "gap",
)  # fmt: skip


def compare(m: mujoco.MjModel) -> None:
    found = moments(exact(m), wanted=lambda d: d.ncon > 0)
    _, derived = stepped(physics.load(m), found)
    theirs = oracles.field(found.last, "cfrc_ext")
    assert np.mean(np.abs(theirs).max((1, 2)) > 0) > 0.2  # else the comparison said nothing
    np.testing.assert_allclose(
        derived.cfrc_ext, theirs, rtol=1e-9, atol=1e-9 * np.abs(theirs).max()
    )
    for i, data in enumerate(found.last):
        ours = ordered(*(x[i][derived.contact.touches[i]] for x in derived.contact[1:]))
        assert len(ours) == data.ncon
        c, force = data.contact, np.zeros((data.ncon, 6))
        for k in range(data.ncon):
            mujoco.mj_contactForce(m, data, k, force[k])
        c_s = ordered(c.geom, c.dist, c.pos, c.frame.reshape(-1, 3, 3), force)
        np.testing.assert_allclose(ours, c_s, rtol=1e-8, atol=1e-8 * np.abs(theirs).max())


def ordered(geom, dist, pos, frame, force) -> np.ndarray:
    """(n, 21) contacts by their geoms, then by their places."""
    n = len(dist)
    each = np.column_stack([geom, dist, pos, frame.reshape(n, 9), force])
    return each[np.lexsort([*np.round(pos, 7).T, *np.asarray(geom).T])]


@pytest.mark.parametrize("name", TOUCHING)
def test_contact_forces_by_body(name: str):
    alone = re.sub("<tendon>.*</tendon>", "", FEATURES[name], flags=re.DOTALL)  # without its wrench
    compare(mujoco.MjModel.from_xml_string(alone))


@pytest.mark.parametrize("name", ["ant", "humanoid"])  # few contacts written out; a list of many
def test_contact_forces_of_robots(name: str):
    compare(oracles.exact_model(name))


def test_no_contacts_no_forces():
    m = mujoco.MjModel.from_xml_string(FEATURES["no constraints"])
    found = moments(exact(m))
    _, derived = stepped(physics.load(m), found)
    assert not derived.cfrc_ext.any()
