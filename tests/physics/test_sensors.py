"""Sensors of a moving arm and a thrown rod against mjData.sensordata."""

# pyright: reportAttributeAccessIssue=false
# (mujoco's module has no type stubs)

import jax
import jax.numpy as jnp
import mujoco
import numpy as np
import pytest

from gpusim import lanes, physics
from tests.physics.features import moments
from tests.physics.harness import close
from tests.physics.models import BALL, TENDON, actuator, model

THINGS = {"body": "fore", "xbody": "fore", "geom": "hand", "site": "tip"}
REFERENCES = {"body": "rod", "xbody": "rod", "geom": "bar", "site": "grip"}
FRAMES = ("framepos", "framequat", "framexaxis", "frameyaxis", "framezaxis", "framelinvel",
          "frameangvel")  # fmt: skip
AT_SITES = ("velocimeter", "gyro", "accelerometer", "magnetometer")
ROD = """<body name="rod" pos="0.4 0.3 0.9"><freejoint/>
  <geom name="bar" type="capsule" size="0.03 0.1" euler="10 50 0" pos="0.1 0 0"/>
  <site name="grip" pos="0 0 0.1" euler="0 40 10"/></body>"""


def every_sensor() -> str:
    """All kinds, of all kinds of frames, alone and relative to another."""
    lines = []
    for (kind, name), (ref, other) in zip(THINGS.items(), REFERENCES.items(), strict=True):
        of = f'objtype="{kind}" objname="{name}"'
        lines += [f"<{s} {of}/>" for s in (*FRAMES, "framelinacc", "frameangacc")]
        lines += [f'<{s} {of} reftype="{ref}" refname="{other}"/>' for s in FRAMES]
    lines += [f'<{s} site="{site}"/>' for s in AT_SITES for site in ("tip", "grip")]
    lines += [f'<{s} body="{b}"/>' for s in ("subtreecom", "subtreelinvel", "subtreeangmom")
              for b in ("base", "fore", "rod")]  # fmt: skip
    lines += [f'<{s} joint="b"/>' for s in ("jointpos", "jointvel", "jointactuatorfrc")]
    lines += ['<ballquat joint="a"/>', '<ballangvel joint="a"/>']
    lines += [f'<{s} tendon="t"/>' for s in ("tendonpos", "tendonvel", "tendonactuatorfrc")]
    lines += [f'<{s} actuator="{a}"/>' for s in ("actuatorpos", "actuatorvel", "actuatorfrc")
              for a in ("pull", "turn")]  # fmt: skip
    lines += ['<gyro site="tip" cutoff="0.3" noise="1"/>']
    return f"<sensor>{''.join(lines)}</sensor>"


TENDON_OF_HINGES = TENDON.format(attributes="").replace('joint="a"', 'joint="c"')
ACTUATORS = actuator('<motor name="pull" tendon="t"/><position name="turn" joint="b" kp="5"/>')
ARM = model(
    every_sensor() + TENDON_OF_HINGES + ACTUATORS, joint=BALL, more=ROD, first='damping="1"'
)


@pytest.mark.parametrize("floor", [False, True])
def test_sensordata_is_c_s(floor: bool):
    text = ARM if not floor else ARM.replace('contype="0" conaffinity="0"', "")
    m = mujoco.MjModel.from_xml_string(text)
    found, loaded = moments(m), physics.load(m)

    def measure(qpos, qvel, warmstart, ctrl):
        state = physics.State(qpos, qvel, warmstart)
        return physics.sensors(loaded, state, physics.forward(loaded, state, ctrl))

    given = [found.given[f] for f in ("qpos", "qvel", "qacc_warmstart", "ctrl")]
    with jax.enable_x64(True):
        ours = jax.jit(jax.vmap(lanes.kernel(measure)))(*map(jnp.asarray, given))
    for i in range(m.nsensor):
        at = slice(m.sensor_adr[i], m.sensor_adr[i] + m.sensor_dim[i])
        theirs = np.array([d.sensordata[at] for d in found.before])
        assert np.abs(theirs).max() > 0
        close(np.asarray(ours)[:, at], theirs)


def test_what_is_not_measured_is_refused_by_name():
    m = mujoco.MjModel.from_xml_string(model('<sensor><touch name="palm" site="tip"/></sensor>'))
    loaded = physics.load(m)
    state = physics.init(loaded, loaded.qpos0, np.zeros(loaded.nv))
    with pytest.raises(physics.Unsupported, match=r"sensor 'palm' \(type touch\)"):
        physics.sensors(loaded, state, physics.forward(loaded, state, np.zeros(0)))
