"""Parallel capsules, which touch at two points: a step from poses put together, against C."""

# pyright: reportAttributeAccessIssue=false
# (mujoco's module has no type stubs)

import functools

import jax
import jax.numpy as jnp
import mujoco
import numpy as np
import pytest

from gpusim import lanes, physics
from gpusim.physics.versions import since
from tests.physics.features import FIELDS, Moments, errors, stepped

pytestmark = pytest.mark.skipif(not since(3, 17), reason="older ones choose other points")
HALF = 0.2, 0.12  # m, of the two capsules' segments
# Where the second one lies, in the first one's axes: side by side, overlapping at either end,
# beyond an end, end to end, in it.
PLACES = {
    "inside": (0.09, 0, 0.03), "above": (0.05, 0.07, 0.2), "below": (0, -0.09, -0.16),
    "beyond": (0.03, 0.03, -0.33), "end to end": (0, 0, 0.41), "in it": (0, 0, 0.0),
}  # fmt: skip
ANGLES = 0.0, 1e-6, 5e-5, 9.9e-5
MODEL = """<mujoco><option iterations="200" ls_iterations="100" tolerance="0" cone="{cone}"/>
  <worldbody>
  <body><freejoint/><geom name="u" type="capsule" size=".05 .2" {geom}/></body>
  <body><freejoint/><geom name="v" type="capsule" size=".06 .12" {geom}/></body>{more}
  </worldbody><contact>{pair}</contact></mujoco>"""
OTHERS = "".join(  # pairs enough for a list
    f'<body pos="{3 + k} 0 0"><freejoint/><geom type="capsule" size=".05 .1"/></body>'
    for k in range(6)
)
PAIR = '<pair geom1="u" geom2="v" condim="4" friction=".8 .4 .01 0 0" margin=".01" gap=".02"/>'
MODELS = {
    "written out": {},
    "margin": {"geom": 'margin=".02" friction=".5"'},
    "gap": {"geom": 'margin=".01" gap=".1" condim="1"'},
    "elliptic": {"cone": "elliptic", "geom": 'condim="6" friction="1 .02 .01"'},
    "explicit": {"geom": 'contype="0" conaffinity="0"', "pair": PAIR},
    "list": {"more": OTHERS},
    "explicit in a list": {"more": OTHERS, "pair": PAIR, "cone": "elliptic"},
}


def model(name: str) -> mujoco.MjModel:
    parts = {"cone": "pyramidal", "geom": "", "more": "", "pair": ""} | MODELS[name]
    return mujoco.MjModel.from_xml_string(MODEL.format(**parts))


def times(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """A product of quaternions."""
    out = np.zeros(4)
    mujoco.mju_mulQuat(out, a, b)
    return out


def put(d: mujoco.MjData, place: tuple, angle: float, reversed_: bool, seed: int) -> None:
    """The second capsule beside the first, both turned anyhow, moving a little."""
    rng = np.random.default_rng(seed)
    first, turn, mat = rng.standard_normal(4), np.zeros(4), np.zeros(9)
    first /= np.linalg.norm(first)
    mujoco.mju_quat2Mat(mat, first)
    mujoco.mju_axisAngle2Quat(turn, np.array([np.cos(seed), np.sin(seed), 0]), angle)
    second = times(first, turn)
    if reversed_:
        second = times(second, np.array([0, 0.6, 0.8, 0]))
    d.qpos[:7] = 0, 0, 1, *first
    d.qpos[7:14] = *(d.qpos[:3] + mat.reshape(3, 3) @ place), *second
    d.qvel[:] = 0.3 * rng.standard_normal(len(d.qvel))


def moments(m: mujoco.MjModel, angles: tuple = ANGLES, places=tuple(PLACES)) -> Moments:
    """A moment of each place, angle and direction, and what C makes of it."""
    given, before, after = [], [], []
    for k, place in enumerate(PLACES[p] for p in places):
        for angle in angles:
            for reversed_ in (False, True):
                forward, step = mujoco.MjData(m), mujoco.MjData(m)
                for d in (forward, step):
                    put(d, place, angle, reversed_, k)
                given.append({f: getattr(step, f).copy() for f in FIELDS})
                mujoco.mj_forward(m, forward)
                mujoco.mj_step(m, step)
                for d, out in ((forward, before), (step, after)):
                    mujoco.mj_rnePostConstraint(m, d)
                    out.append(d)
    return Moments({f: np.array([g[f] for g in given]) for f in FIELDS}, before, after, before)


SLOW = [pytest.param(n, marks=pytest.mark.slow) for n in ("list", "explicit in a list")]


@pytest.mark.parametrize("name", [*(n for n in MODELS if "list" not in n), *SLOW])
def test_parallel_capsules_touch_at_c_s_two_points(name: str):
    m = model(name)
    loaded, found = physics.load(m), moments(m)
    assert (loaded.topology.slots is None) == ("list" not in name)
    assert {d.ncon for d in found.before} == {2}
    state, derived = stepped(loaded, found)
    contact = derived.contact
    assert (contact.touches.sum(1) == 2).all()
    for k, d in enumerate(found.before):
        ours = contact.pos[k][contact.touches[k]]
        np.testing.assert_allclose(ours, [c.pos for c in d.contact], rtol=0, atol=1e-11)
    assert {q: v for q, v in errors(found, state, derived).items() if not v < 1e-9} == {}


@pytest.mark.parametrize("name", ["written out", SLOW[0]])
def test_capsules_that_are_not_quite_parallel_touch_at_one_point(name: str):
    """C finds the point of lines at 1e-3 to 1e-10, of 1 / (1e-3)² times rounding."""
    m = model(name)
    found = moments(m, angles=(1e-3, 1e-2))
    assert {d.ncon for d in found.before} == {1}
    state, derived = stepped(physics.load(m), found)
    assert (derived.contact.touches.sum(1) == 1).all()
    assert {q: v for q, v in errors(found, state, derived).items() if not v < 1e-7} == {}


@pytest.mark.parametrize("half", [1e-12, 1.5e-8, 1.65e-8, 1e-6])
def test_hardly_any_length_is_a_sphere(half: float):
    """Which touches once, however it lies: C, at 1.58e-8 m. The point is anywhere on it."""
    xml = MODEL.format(cone="pyramidal", geom="", more="", pair="")
    m = mujoco.MjModel.from_xml_string(xml.replace(".06 .12", f".06 {half}"))
    found = moments(m, angles=(0.0,), places=("inside", "above"))
    assert {d.ncon for d in found.before} == {1 if half < 1.58e-8 else 2}
    state, derived = stepped(physics.load(m), found)
    assert {q: v for q, v in errors(found, state, derived).items() if not v < 1e-6} == {}
    assert (derived.contact.touches.sum(1) == found.before[0].ncon).all()


@pytest.mark.parametrize("name", ["written out", "elliptic", SLOW[0]])
def test_single_precision_finds_both(name: str):
    """But the normal of capsules that share their axes, where rounding decides."""
    m = model(name)
    found = moments(m, angles=(0.0, 5e-5), places=tuple(PLACES)[:-1])
    state, derived = stepped(physics.load(m), found, np.float32)
    assert (derived.contact.touches.sum(1) == 2).all()
    assert errors(found, state, derived)["qvel"] < 1e-4


@functools.cache
def step_of(name: str, dtype):
    loaded = physics.load(model(name))
    one = lambda qpos, qvel: physics.step(loaded, physics.init(loaded, qpos, qvel), np.zeros(0))[0]
    return jax.jit(jax.vmap(lanes.kernel(one)))


@pytest.mark.parametrize("dtype", [np.float32, pytest.param(np.float64, marks=pytest.mark.slow)])
@pytest.mark.parametrize(
    "name", ["written out", "elliptic", pytest.param("list", marks=pytest.mark.slow)]
)
def test_a_world_does_not_feel_that_capsules_are_parallel_beside_it(name: str, dtype):
    found = moments(model(name), angles=(0.0, 0.3))
    qpos, qvel = (found.given[f].astype(dtype) for f in ("qpos", "qvel"))
    with jax.enable_x64(dtype == np.float64):
        together = step_of(name, dtype)(jnp.asarray(qpos), jnp.asarray(qvel))
        for k in range(8):
            alone = step_of(name, dtype)(qpos[k : k + 1], qvel[k : k + 1])
            for x, y in zip(jax.tree.leaves(alone), jax.tree.leaves(together), strict=True):
                np.testing.assert_array_equal(x[0], y[k])


def test_gradients_run_through_both_points():
    """Velocities after a step by velocities, against differences."""
    m = model("written out")
    loaded, found = physics.load(m), moments(m, angles=(0.0,))
    qpos, qvel = (found.given[f][:2] for f in ("qpos", "qvel"))

    def after(qpos, qvel):
        state = physics.step(loaded, physics.init(loaded, qpos, qvel), np.zeros(0))[0]
        return (state.qvel * np.arange(1.0, 13)).sum()

    with jax.enable_x64(True):
        gradient = np.asarray(
            jax.jit(jax.vmap(lanes.kernel(jax.grad(after, argnums=1))))(qpos, qvel)
        )
        value = jax.jit(jax.vmap(lanes.kernel(after)))
        for k in range(12):
            h = 1e-6 * np.eye(12)[k]
            slope = (np.asarray(value(qpos, qvel + h)) - np.asarray(value(qpos, qvel - h))) / 2e-6
            np.testing.assert_allclose(gradient[:, k], slope, rtol=1e-5, atol=1e-5)
