"""Models that hold what Brax's do not: everything claimed to be supported, against C MuJoCo."""

# pyright: reportAttributeAccessIssue=false
# (mujoco's module has no type stubs)

import functools

import mujoco
import numpy as np
import pytest

from gpusim import physics
from tests import oracles
from tests.physics.harness import close, over_worlds, run_model
from tests.physics.test_constraint import assert_same_rows

# A walker of spheres and capsules between tilted planes: contact frames, priorities, mixing,
# margins, impedances of all shapes; bodies welded on; joints off the bodies' origins.
TERRAIN = """
<mujoco model="terrain">
  <option timestep="0.004" iterations="100" tolerance="0" impratio="2" gravity="-3 -4 -7"/>
  <default>
    <geom contype="1" conaffinity="0"/>
    <default class="ground"><geom type="plane" size="9 9 1" contype="0" conaffinity="1"/></default>
  </default>
  <worldbody>
    <geom class="ground" euler="7 -4 30" friction="0.8" solimp="0.5 0.9 0.02 0.3 2"/>
    <geom class="ground" pos="0 -0.3 0" euler="-90 0 0" solref="0.03 0.7" solmix="3"/>
    <geom class="ground" pos="-0.4 0 0" euler="0 70 0" priority="1" friction="0.3"/>
    <body name="trunk" pos="0.1 0 0.6" euler="20 10 0">
      <freejoint/>
      <geom type="capsule" fromto="-0.2 0.05 0 0.2 0 0.1" size="0.08" margin="0.02"/>
      <body name="pack" pos="0 0.1 0.1" euler="0 30 0">
        <geom type="box" size="0.1 0.05 0.02" contype="0"/>
        <body name="antenna" pos="0.1 0.1 0.1">
          <joint type="slide" axis="0 1 2" range="-0.1 0.1" limited="true" damping="2"/>
          <geom size="0.09" priority="2" friction="1.3" solimp="0.9 0.9 0.01 0.5 2"/>
        </body>
      </body>
      <body name="leg" pos="0.2 0 0" euler="0 40 0">
        <joint pos="0 0.03 0.05" axis="0 1 0.2" range="-50 60" limited="true" margin="0.05"
               solreflimit="0.001 1" solimplimit="0.8 0.95 0.1 0.4 3" stiffness="5" springref="20"/>
        <joint pos="0.02 0 0" axis="1 0 0" range="-40 40" limited="true" damping="0.3" ref="10"/>
        <geom type="capsule" fromto="0 0 0 0 0.02 -0.4" size="0.05" solmix="0" solref="0.05 1"/>
      </body>
    </body>
  </worldbody>
  <actuator><motor joint="thigh"/></actuator>
</mujoco>
""".replace('<joint pos="0 0.03 0.05"', '<joint name="thigh" pos="0 0.03 0.05"')

# Several trees without free joints; a slide after a hinge; servos, ranges, gears; a fixed base.
MACHINE = """
<mujoco model="machine">
  <option timestep="0.005" iterations="100" tolerance="0" gravity="0.5 0.2 -9" density="20"
          viscosity="0.3" wind="1 -2 0.5"/>
  <default><geom contype="0" conaffinity="0"/></default>
  <worldbody>
    <body name="base" pos="0.3 0 0.2" euler="0 0 30">
      <geom type="box" size="0.1 0.1 0.1"/>
      <body name="arm" pos="0 0 0.1" euler="10 0 0">
        <joint name="swing" axis="1 2 0.5" pos="0.05 0 0" damping="0.1"/>
        <joint name="reach" type="slide" axis="0.3 0 1" range="-0.2 0.4" limited="true" ref="0.1"/>
        <joint name="twist" axis="0 0 1" pos="0 0.1 0" armature="0.02" stiffness="3"/>
        <geom type="cylinder" size="0.04 0.2" pos="0 0.02 0.2"/>
        <site name="hand" pos="0 0 0.4"/>
        <body name="tool" pos="0 0 0.4">
          <inertial pos="0.1 0 0.02" mass="0.3" fullinertia="0.02 0.03 0.025 0.003 -0.002 0.001"/>
          <joint name="grip" axis="0 1 0" range="-30 30" limited="true"/>
        </body>
      </body>
    </body>
    <body name="cart" pos="-0.5 0 0">
      <joint name="turn" axis="0 0 1" pos="0.2 0 0"/>
      <joint name="roll" type="slide" axis="1 0 0" damping="1"/>
      <geom size="0.1" pos="0 0.1 0"/>
    </body>
  </worldbody>
  <actuator>
    <position joint="swing" kp="20" kv="1" ctrlrange="-1 1" ctrllimited="true"/>
    <velocity joint="reach" kv="3" gear="2" forcerange="-2 2" forcelimited="true"/>
    <motor joint="grip" gear="-3" ctrlrange="-0.5 2" ctrllimited="true"/>
    <general joint="roll" gaintype="affine" gainprm="2 0.5 -0.3" biastype="affine"
             biasprm="1 -2 0.1"/>
  </actuator>
</mujoco>
"""

# Things that touch each other: two free bodies and an arm on a rail, on top of its own base.
PILE = """
<mujoco model="pile">
  <option timestep="0.003" iterations="100" tolerance="0" gravity="0.3 -0.2 -9"/>
  <worldbody>
    <geom name="floor" type="plane" size="9 9 1"/>
    <geom name="post" type="capsule" fromto="0 0 0.1 0 0.1 0.4" size="0.1"/>
    <body pos="0.15 0.1 0.5"><freejoint/><geom size="0.12" friction="0.5"/></body>
    <body pos="-0.1 0.1 0.7" euler="0 80 20">
      <freejoint/><geom type="capsule" size="0.07 0.2" margin="0.01"/>
    </body>
    <body pos="0.1 -0.1 0.2">
      <joint type="slide" axis="1 0.2 0" damping="1" range="-1 1" limited="true"/>
      <geom type="capsule" size="0.08 0.1" contype="0" conaffinity="0"/>
      <body pos="0.1 0 0.2">
        <joint axis="0 1 0" damping="0.1"/>
        <geom type="capsule" fromto="0 0 0 0.3 0 0" size="0.05" mass="1"/>
        <body pos="0.3 0 0">
          <joint axis="0 1 0.3" damping="0.1"/>
          <geom type="capsule" fromto="0 0 0 -0.1 0 0.2" size="0.06"/>
          <body pos="-0.1 0 0.2">
            <joint axis="0.2 1 0" damping="0.1"/>
            <geom size="0.09" pos="-0.15 0 0" solref="0.01 1.2"/>
          </body>
        </body>
      </body>
    </body>
  </worldbody>
  <actuator><motor joint="swing" gear="3"/></actuator>
</mujoco>
""".replace('<joint axis="0 1 0.3"', '<joint name="swing" axis="0 1 0.3"')
ZOO = pytest.mark.parametrize(
    "xml",
    [TERRAIN, MACHINE, pytest.param(PILE, marks=pytest.mark.slow)],
    ids=["terrain", "machine", "pile"],
)


@functools.cache
def zoo(xml: str):
    m = mujoco.MjModel.from_xml_string(xml)
    sample = oracles.sample_of(m, 96)
    return run_model(m, sample)


@ZOO
def test_step_equals_mj_step(xml: str):
    done = zoo(xml)
    for field in ("xpos", "cvel", "cinert", "subtree_com", "qfrc_bias", "actuator_force"):
        ours = getattr(done.derived, field)
        theirs = oracles.field(done.sample.before, field).reshape(ours.shape)
        close(ours[:, 1:], theirs[:, 1:]) if ours.ndim == 3 else close(ours, theirs)
    close(done.state.qpos, oracles.field(done.sample.after, "qpos"))
    close(done.state.qvel, oracles.field(done.sample.after, "qvel"))
    close(done.state.qacc_warmstart, oracles.field(done.sample.after, "qacc"))


@ZOO
def test_rows_equal_mjdata(xml: str):
    done = zoo(xml)
    assert_same_rows(done.model.mj, done.sample.before, done.rows)


def test_every_plane_and_every_shape_was_touched():
    contacts = [c for d in zoo(TERRAIN).sample.before for c in d.contact[: d.ncon]]
    assert {c.geom1 for c in contacts} == {0, 1, 2}
    assert {c.geom2 for c in contacts} == {3, 5, 6}


@pytest.mark.slow
def test_every_pair_of_shapes_met():
    """And between trees, within one, and with the world."""
    done = zoo(PILE)
    m, root = done.model.mj, done.model.topology.root
    met = set()
    for c in (c for d in done.sample.before for c in d.contact[: d.ncon]):
        trees = [root[m.geom_bodyid[g]] for g in c.geom]
        where = "world" if 0 in trees else "one tree" if trees[0] == trees[1] else "two trees"
        met.add((*sorted(int(m.geom_type[g]) for g in c.geom), where))
    plane, ball, capsule = 0, 2, 3
    assert {(plane, ball, "world"), (plane, capsule, "world"), (ball, capsule, "world")} < met
    assert {(capsule, capsule, "world"), (ball, capsule, "two trees")} < met
    assert {(ball, ball, "two trees"), (capsule, capsule, "two trees")} < met
    assert (ball, capsule, "one tree") in met


def test_worlds_may_differ_in_their_numbers():
    """Mass, friction, damping, gear and gravity of each world its own, as if set in mjModel."""
    m = mujoco.MjModel.from_xml_string(TERRAIN)
    model, sample = physics.load(m), oracles.sample_of(m, 16, seed=3)
    rng = np.random.default_rng(0)
    names = ("body_mass", "body_inertia", "geom_friction", "dof_damping", "actuator_gear")
    numbers = {
        f: getattr(model, f) * rng.uniform(0.5, 2, (16, *getattr(model, f).shape)) for f in names
    }
    gravity = model.gravity + rng.standard_normal((16, 3))

    def step(state, ctrl, numbers, gravity):
        return physics.step(model.replace(gravity=gravity, **numbers), state, ctrl)[0]

    state = physics.State(sample.qpos, sample.qvel, sample.warmstart)
    after = over_worlds(step)(state, sample.ctrl, numbers, gravity)
    for w in range(16):
        for f in names:
            getattr(m, f)[:] = numbers[f][w]
        m.opt.gravity[:] = gravity[w]
        d = mujoco.MjData(m)
        d.qpos[:], d.qvel[:], d.ctrl[:] = sample.qpos[w], sample.qvel[w], sample.ctrl[w]
        d.qacc_warmstart[:] = sample.warmstart[w]
        mujoco.mj_step(m, d)
        close(after.qvel[w], d.qvel)


def test_replace_says_what_it_can_do():
    model = physics.load(oracles.asset("hopper"))
    with pytest.raises(ValueError, match=r"hopper\.xml: 'jnt_axis' cannot be replaced"):
        model.replace(jnt_axis=np.zeros((6, 3)))
    with pytest.raises(ValueError, match=r"body_mass has shape \(5,\), not \(4,\)"):
        model.replace(body_mass=np.ones(4))
