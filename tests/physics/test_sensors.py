"""Sensors of a moving arm and a thrown rod against mjData.sensordata."""

# pyright: reportAttributeAccessIssue=false
# (mujoco's module has no type stubs)

import itertools

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
        return physics.sensors(loaded, physics.forward(loaded, state, ctrl))

    given = [found.given[f] for f in ("qpos", "qvel", "qacc_warmstart", "ctrl")]
    with jax.enable_x64(True):
        ours = jax.jit(jax.vmap(lanes.kernel(measure)))(*map(jnp.asarray, given))
    for i in range(m.nsensor):
        at = slice(m.sensor_adr[i], m.sensor_adr[i] + m.sensor_dim[i])
        theirs = np.array([d.sensordata[at] for d in found.before])
        assert np.abs(theirs).max() > 0
        close(np.asarray(ours)[:, at], theirs)


HAND = """
<mujoco>
  <option timestep="0.002" iterations="100" tolerance="1e-15" {option}/>
  <worldbody>
    <geom name="floor" type="plane" size="0 0 1" condim="{condim}"/>
    <geom name="post" type="capsule" pos="0.9 0 0.4" size="0.05 0.4" contype="0" conaffinity="0"/>
    <geom name="ghost" type="box" pos="0 0 3" size="1 1 1" rgba="0 0 0 0"
          contype="0" conaffinity="0"/>
    <body name="arm" pos="0 0 0.5">
      <joint axis="0 1 0" damping="1"/><joint type="slide" axis="0 0 1" damping="3"/>
      <geom name="bar" type="capsule" fromto="0 0 0 0.4 0 0" size="0.04"/>
      <site name="wrist" pos="0.1 0.02 0" euler="20 10 0"/>
      <body name="palm" pos="0.4 0 0">
        <joint axis="0 1 0" damping="1"/>
        <geom name="skin" type="box" pos="0.1 0 0" size="0.12 0.06 0.03" condim="{condim}"/>
        <site name="eye" pos="0.2 0 0" euler="0 70 0"/>
        <site name="up" pos="0.1 0 0.05"/>
        {sites}
        <body name="finger" pos="0.24 0 0">
          <joint axis="0 1 0" damping="1"/>
          <geom name="tip" type="sphere" pos="0.06 0 0" size="0.05" condim="{condim}"/>
          <site name="pad" pos="0.06 0 -0.05" size="0.06"/>
        </body>
      </body>
    </body>
    <body name="ball" pos="0.6 0 0.7"><freejoint/>
      <geom name="ball" size="0.08" condim="{condim}"/>
    </body>
  </worldbody>
  <actuator><motor joint="lift" gear="1"/></actuator>
  <sensor>{sensors}</sensor>
</mujoco>""".replace('<joint type="slide"', '<joint name="lift" type="slide"')
ZONES = {"sphere": "0.15", "capsule": "0.14 0.1", "ellipsoid": "0.14 0.1 0.05",
         "cylinder": "0.12 0.05", "box": "0.13 0.07 0.04"}  # fmt: skip
PARTIES = (
    '', 'geom1="skin"', 'geom2="tip"', 'body1="finger" body2="ball"', 'subtree1="arm"',
    'body1="ball" subtree2="arm"', 'site="zone0"', 'site="zone4" geom2="floor"',
)  # fmt: skip
EVERYTHING = 'data="found force torque dist pos normal tangent"'


def hand(option: str = "", condim: int = 3, more: str = "") -> mujoco.MjModel:
    """An arm with a palm and a finger, and a ball that falls on it, with sensors of touch."""
    sites = "".join(
        f'<site name="zone{k}" type="{t}" size="{s}" pos="0.12 0.01 -0.02" euler="{10 * k} 20 0"/>'
        for k, (t, s) in enumerate(ZONES.items())
    )
    sensors = [f'<touch site="zone{k}"/>' for k in range(len(ZONES))]
    sensors += ['<touch site="pad"/>', '<touch site="pad" cutoff="2"/>']
    sensors += [f'<{s} site="{at}"/>' for s in ("force", "torque") for at in ("wrist", "pad")]
    sensors += ['<rangefinder site="eye"/>', '<rangefinder site="up"/>']
    sensors += ['<rangefinder site="up" cutoff="0.2"/>']
    sensors += [f'<insidesite site="zone{k}" objtype="xbody" objname="ball"/>' for k in range(5)]
    ways = itertools.cycle(("mindist", "maxforce", "netforce"))
    sensors += [
        f'<contact {of} num="2" {EVERYTHING} reduce="{how}"/>'
        for of, how in zip((*PARTIES, PARTIES[0]), ways, strict=False)
    ]
    sensors += [f'<contact {of} num="3" data="found"/>' for of in PARTIES]
    text = HAND.format(option=option, condim=condim, sites=sites, sensors="".join(sensors) + more)
    return mujoco.MjModel.from_xml_string(text)


@pytest.mark.parametrize(
    ("option", "condim"), [("", 3), ('cone="elliptic"', 4), ('cone="elliptic" impratio="3"', 6)]
)
def test_what_touches_is_c_s(option: str, condim: int):
    m = hand(option, condim)
    found = moments(m, 40, push=0.5, wanted=lambda d: d.ncon > 1)
    loaded = physics.load(m)

    def measure(qpos, qvel, warmstart, ctrl):
        state = physics.State(qpos, qvel, warmstart)
        return physics.sensors(loaded, physics.forward(loaded, state, ctrl))

    given = [found.given[f] for f in ("qpos", "qvel", "qacc_warmstart", "ctrl")]
    with jax.enable_x64(True):
        ours = np.asarray(jax.jit(jax.vmap(lanes.kernel(measure)))(*map(jnp.asarray, given)))
    theirs = np.array([d.sensordata for d in found.before])
    kinds = [mujoco.mjtSensor(t).name for t in m.sensor_type]
    for i in range(m.nsensor):
        at = slice(m.sensor_adr[i], m.sensor_adr[i] + m.sensor_dim[i])
        if "INSIDESITE" not in kinds[i]:
            assert np.ptp(theirs[:, at]) > 0, kinds[i]
        np.testing.assert_allclose(
            ours[:, at], theirs[:, at], rtol=1e-7, atol=1e-7 * (1 + np.abs(theirs[:, at]).max()),
            err_msg=f"{kinds[i]} {i}",
        )  # fmt: skip


def test_forces_that_nobody_knows_are_no_zeros():
    """MJX does not tell them: what touches then reads NaN, what does not 0."""
    m = hand()
    found, loaded = moments(m, 4, push=0.5, wanted=lambda d: d.ncon > 1), physics.load(m)

    def measure(qpos, qvel, warmstart, ctrl):
        derived = physics.forward(loaded, physics.State(qpos, qvel, warmstart), ctrl)
        unknown = derived.contact._replace(force=jnp.nan * derived.contact.force)
        return physics.sensors(loaded, derived._replace(contact=unknown))

    given = [found.given[f] for f in ("qpos", "qvel", "qacc_warmstart", "ctrl")]
    ours = np.asarray(jax.jit(jax.vmap(lanes.kernel(measure)))(*map(jnp.asarray, given)))
    theirs = np.array([d.sensordata for d in found.before])
    for i in np.flatnonzero(m.sensor_type == mujoco.mjtSensor.mjSENS_TOUCH):
        at = m.sensor_adr[i]
        np.testing.assert_array_equal(np.isnan(ours[:, at]), theirs[:, at] > 0)
    most = [i for i in range(m.nsensor) if m.sensor_intprm[i, 1] == 2]  # reduced by maxforce
    assert most
    for i in most:
        at = slice(m.sensor_adr[i], m.sensor_adr[i] + m.sensor_dim[i])
        whole = theirs[:, at].any(1)  # else there is no contact
        assert np.isnan(ours[whole, at]).any(1).all()


REFUSED = {
    '<clock name="palm"/>': r"sensor 'palm' \(type clock\)",
    '<contact name="c" geom1="tip" data="found force"/>': "'c' .*without reduction",
    '<contact name="v" geom1="tip" data="linvel" reduce="mindist"/>': "'v' .*velocities",
}


@pytest.mark.parametrize("sensor", REFUSED)
def test_what_is_not_measured_is_refused_by_name(sensor: str):
    loaded = physics.load(hand(more=sensor))
    state = physics.init(loaded, loaded.qpos0, np.zeros(loaded.nv))
    read = lambda state: physics.sensors(loaded, physics.forward(loaded, state, np.zeros(1)))
    with pytest.raises(physics.Unsupported, match=REFUSED[sensor]):
        jax.eval_shape(read, state)
