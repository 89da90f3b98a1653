"""Forces and torques that a caller puts on bodies (xfrc_applied), against C MuJoCo."""
# mujoco's compiled modules come without type stubs:
# pyright: reportAttributeAccessIssue=false

import jax
import jax.numpy as jnp
import mujoco
import numpy as np
import pytest

from gpusim import lanes, physics

MJCF = """
<mujoco>
  <option timestep="0.002" integrator="{integrator}" iterations="100" tolerance="1e-14"/>
  <worldbody>
    <geom type="plane" size="3 3 1"/>
    <body name="box" pos="0 0 0.14">
      <freejoint/>
      <geom type="box" size="0.1 0.15 0.15" pos="0.02 0 0.01"/>
      <body name="arm" pos="0.1 0 0.1">
        <joint name="elbow" axis="0 1 0" damping="0.1"/>
        <geom type="capsule" size="0.03" fromto="0 0 0 0.3 0 0"/>
        <site name="wrist" pos="0.3 0 0"/>
        <body name="hand" pos="0.3 0 0">
          <joint type="ball"/>
          <geom type="sphere" size="0.05" pos="0.02 0.03 0"/>
          <site name="palm" pos="0.02 0 0"/>
        </body>
      </body>
    </body>
    <body name="post" pos="1 0 1">
      <joint name="lift" type="slide" axis="0 0 1" stiffness="50"/>
      <geom type="sphere" size="0.1"/>
    </body>
  </worldbody>
  <actuator><motor joint="elbow" gear="3"/></actuator>
  <sensor>
    <force site="palm"/><torque site="palm"/><accelerometer site="wrist"/>
  </sensor>
</mujoco>
"""


@pytest.mark.parametrize(
    "integrator", ["Euler", pytest.param("RK4", marks=pytest.mark.slow), "implicitfast"]
)
def test_pushes_are_those_of_c(integrator):
    """Of all bodies, in and out of contact, for some steps each; and what sensors feel of them."""
    mj = mujoco.MjModel.from_xml_string(MJCF.format(integrator=integrator))
    data, rng = mujoco.MjData(mj), np.random.default_rng(0)
    with jax.enable_x64(True):
        model = physics.load(mj)

        def steps(state, ctrl):
            after, _ = physics.steps(model, state, ctrl, 5)
            now = physics.forward(model, after, ctrl)
            return after, now, physics.sensors(model, now)

        run = jax.jit(lanes.kernel(steps))
        state = physics.init(model, data.qpos, data.qvel)
        for trial in range(8):
            data.xfrc_applied[:] = rng.normal(size=(mj.nbody, 6)) * [4, 4, 4, 0.5, 0.5, 0.5]
            if trial == 3:
                data.xfrc_applied[:] = 0
            data.ctrl[:] = rng.normal(size=mj.nu)
            state = state._replace(xfrc_applied=jnp.asarray(data.xfrc_applied))
            state, now, sensed = run(state, jnp.asarray(data.ctrl))
            mujoco.mj_step(mj, data, 5)
            np.testing.assert_allclose(state.qpos, data.qpos, rtol=1e-9, atol=1e-9)
            np.testing.assert_allclose(state.qvel, data.qvel, rtol=1e-8, atol=1e-8)
            np.testing.assert_array_equal(state.xfrc_applied, data.xfrc_applied)
            mujoco.mj_forward(mj, data)
            mujoco.mj_rnePostConstraint(mj, data)
            for name in ("qfrc_smooth", "qacc", "cfrc_ext"):
                expected = getattr(data, name)
                scale = np.abs(expected).max()
                np.testing.assert_allclose(getattr(now, name), expected, atol=1e-7 * scale)
            np.testing.assert_allclose(sensed, data.sensordata, rtol=1e-6, atol=1e-6)
        assert data.ncon  # else the part of contacts would not have been seen


def test_pushes_of_another_shape_are_refused():
    model = physics.load(mujoco.MjModel.from_xml_string(MJCF.format(integrator="Euler")))
    state = physics.init(model, model.qpos0, np.zeros(model.nv))
    with pytest.raises(ValueError, match=r"xfrc_applied has shape \(6,\), not \(5, 6\)"):
        physics.step(model, state._replace(xfrc_applied=jnp.zeros(6)), jnp.zeros(1))
