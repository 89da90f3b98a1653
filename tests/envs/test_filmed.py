"""Tasks on a MuJoCo model that are seen through one of its cameras."""

# pyright: reportAttributeAccessIssue=false
# (mujoco's module has no type stubs)

import dataclasses
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import mujoco
import numpy as np
import pytest

import gpusim
from gpusim import physics
from gpusim.agents.ppo.config import PPOConfig
from gpusim.agents.ppo.learner import PPO
from gpusim.envs import Moment, MujocoTask, engines
from gpusim.envs.tasks.pixels.pendulum import InvertedPendulumPixels

HIGH, WIDE, FRAMES, FAR = 6, 10, 3, 5.0
SIZE: dict[str, Any] = {"camera_size": (HIGH, WIDE), "camera_far": FAR}


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Yard(MujocoTask):
    """A ball rolls, of a size of its own, beside a mark that is put somewhere and moved."""

    mjcf: ClassVar[str] = """
    <mujoco><worldbody>
      <geom type="plane" size="0 0 1" rgba="0.2 0.3 0.4 1"/>
      <camera name="eye" pos="0 -3 1" xyaxes="1 0 0 0 0.3 1" fovy="40"/>
      <body name="ball" pos="0 0 0.3"><freejoint/><geom size="0.2" rgba="1 0 0 1"/></body>
      <body name="mark" mocap="true"><geom type="box" size="0.1 0.1 0.3" rgba="0 1 0 1"
        contype="0" conaffinity="0"/></body>
      <body><joint type="slide"/><geom size=".1" pos="0 9 9"/></body>
    </worldbody><actuator><motor joint="j"/></actuator></mujoco>""".replace(
        '<joint type="slide"/>', '<joint name="j" type="slide"/>'
    )

    def initial(self, key: jax.Array) -> tuple[jax.Array, jax.Array]:
        aside = jax.random.uniform(key, (), minval=-0.5, maxval=0.5)
        qpos = jnp.asarray(self.init_qpos, float).at[0].add(aside)
        return qpos, jnp.zeros(self.model.nv).at[0].set(2.0)

    def mocap(self, key: jax.Array) -> physics.Mocap:
        aside = jax.random.uniform(key, (), minval=-0.8, maxval=0.8)
        still = jnp.array([[0.0, 0.5, 0.3]]).at[0, 0].set(aside)
        return physics.Mocap(still, jnp.array([[1.0, 0, 0, 0]]))

    def disturb(self, before: Any) -> Any:
        at = before.state
        return at._replace(mocap=at.mocap._replace(pos=at.mocap.pos + jnp.array([0, 0.02, 0])))

    def vary(self, key: jax.Array) -> dict[str, jax.Array]:
        size = jax.random.uniform(key, (), minval=0.1, maxval=0.4)
        return {"geom_size": jnp.asarray(self.model.geom_size).at[1, 0].set(size)}

    def observation(self, memory: tuple, now: Moment) -> jax.Array:
        return now.state.qpos

    def rewards(self, past: tuple, memory: tuple, now: Moment) -> dict[str, jax.Array]:
        return {"fast": now.state.qvel[0]}


def depths(world: Any, state: Any, index: int) -> np.ndarray:
    """(HIGH, WIDE) of one of a batch of worlds as it is now, by C MuJoCo."""
    carry = jax.tree.map(lambda x: np.asarray(x[index], float), state.carry)
    m = world.model.mj.__copy__()
    if "geom_size" in carry.numbers:
        m.geom_size[:] = carry.numbers["geom_size"]
    data = mujoco.MjData(m)
    data.qpos[:] = carry.physics.qpos
    if carry.physics.mocap is not None:
        data.mocap_pos[:], data.mocap_quat[:] = carry.physics.mocap
    mujoco.mj_forward(m, data)
    found = np.full((HIGH, WIDE), FAR)
    cam, fovy = data.camera(world.camera), m.camera(world.camera).fovy[0]
    for i, j in np.ndindex(HIGH, WIDE):
        x, y = (2 * j + 1 - WIDE) / HIGH, (HIGH - 2 * i - 1) / HIGH
        up = np.tan(np.radians(fovy / 2))
        ray = cam.xmat.reshape(3, 3) @ [x * up, y * up, -1]
        hit = mujoco.mj_ray(m, data, cam.xpos, ray, None, True, -1, np.zeros(1, np.int32))
        found[i, j] = min(hit, FAR) if hit >= 0 else FAR
    return found


@pytest.mark.parametrize("make", [Yard, lambda **options: gpusim.make("hopper", **options)])
def test_pictures_show_where_everything_is_and_was(make: Any):
    camera = "eye" if make is Yard else "track"
    world = make(camera=camera, camera_image="depth", camera_frames=FRAMES, **SIZE)
    assert world.picture_shape == (HIGH, WIDE, FRAMES)
    state = jax.vmap(world.reset)(jax.random.split(jax.random.key(0), 3))
    draw, step = jax.jit(jax.vmap(world.picture)), jax.jit(jax.vmap(world.step))
    expected = [np.stack([depths(world, state, k) for k in range(3)])] * FRAMES
    for n in range(5):
        found = FAR * np.asarray(draw(state.obs))
        assert found.shape == (3, HIGH, WIDE, FRAMES)
        # In single precision a pixel at an edge may be of what is behind it.
        near = np.abs(found - np.stack(expected, -1)) < 1e-3
        assert near.mean() > 0.99
        state = step(state, jax.random.uniform(jax.random.key(n), (3, world.action_size)))
        now = np.stack([depths(world, state, k) for k in range(3)])
        expected = [now, *expected[:-1]]
    assert np.abs(expected[0] - expected[-1]).max() > 0.01


def test_a_camera_changes_nothing_but_what_is_seen():
    plain, filmed = gpusim.make("inverted_pendulum"), gpusim.make("inverted_pendulum_pixels")
    keys = jax.random.split(jax.random.key(0), 4)
    a, b = jax.vmap(plain.reset)(keys), jax.vmap(filmed.reset)(keys)
    for n in range(3):
        np.testing.assert_array_equal(b.obs[:, :2], a.obs[:, :2])
        action = jax.random.uniform(jax.random.key(n), (4, 1), minval=-1.0)
        a, b = jax.vmap(plain.step)(a, action), jax.vmap(filmed.step)(b, action)
        for x, y in ((a.reward, b.reward), (a.terminated, b.terminated), (a.metrics, b.metrics)):
            jax.tree.map(np.testing.assert_array_equal, x, y)
    np.testing.assert_array_equal(plain.picture(a.obs[0]) is None, True)
    assert plain.picture_shape is None
    assert filmed.picture_shape == (64, 64, 6)


def test_channels_are_the_newest_picture_s_first():
    options: dict[str, Any] = {"camera": "eye", "camera_frames": 2, **SIZE}
    drawn = {}
    for kind in ("rgb", "depth", "rgbd"):
        world = Yard(camera_image=kind, **options)
        drawn[kind] = np.asarray(world.picture(world.reset(jax.random.key(1)).obs))
        assert world.picture_colours == (1 if kind == "depth" else 3)
        assert world.picture_shape == drawn[kind].shape
    expected = [drawn["rgb"][..., :3], drawn["depth"][..., :1]] * 2
    np.testing.assert_array_equal(drawn["rgbd"], np.concatenate(expected, -1))
    red, green, blue = np.moveaxis(drawn["rgb"][..., :3], -1, 0)
    assert (red > 2 * green).any()  # the ball
    assert ((green > red) & (green > blue)).any()  # the mark
    assert red[-1].max() < blue[-1].max()  # the ground is below


def test_a_world_that_diverged_is_drawn_of_finite_numbers():
    """Its observation is zero, and a quaternion of zeros has no direction: nothing is there."""
    world = Yard(camera="eye", **SIZE)
    obs = world.reset(jax.random.key(0)).obs
    ground = np.array([0.2, 0.3, 0.4])
    for broken in (jnp.zeros_like(obs), jnp.full_like(obs, jnp.nan)):
        picture = np.asarray(world.picture(broken))[..., :3]
        seen = picture[picture.any(-1)]
        np.testing.assert_allclose(seen / seen[:, :1], np.tile(ground / 0.2, (len(seen), 1)), 1e-5)


def test_large_pictures_and_sizes_that_nothing_divides_are_drawn_alike():
    whole = Yard(camera="eye", camera_size=(7, 700), camera_frames=1)
    assert whole._rows == 1
    odd = Yard(camera="eye", camera_size=(9, 100), camera_frames=1)
    assert odd._rows == 3
    obs = whole.reset(jax.random.key(0)).obs
    thin = np.asarray(whole.picture(obs))
    assert thin.shape == (7, 700, 3)
    assert np.asarray(odd.picture(obs)).shape == (9, 100, 3)


def test_c_mujoco_is_seen_through_the_same_camera():
    world = Yard(camera="eye", **SIZE)
    other = engines.in_mujoco(world)
    assert other.picture_shape == world.picture_shape
    state = jax.jit(other.start)(jax.random.key(0))
    np.testing.assert_allclose(state.obs, world.reset(jax.random.key(0)).obs, atol=1e-6)
    theirs, ours = (np.asarray(w.picture(state.obs)) for w in (other, world))
    np.testing.assert_allclose(theirs, ours, atol=1e-5)
    hopper = gpusim.make("Hopper-v5", camera="track")
    with pytest.raises(ValueError, match="Hopper-v5 is seen through a camera"):
        engines.in_gymnasium(hopper)


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("ant", {"camera": "trak"}, "'ant': model ant.xml: unknown camera 'trak'; did you mean"),
        ("reacher", {"camera": "eye"}, "unknown camera 'eye': there is none with a name; write <c"),
        ("ant", {"camera_size": (32, 32)}, r"camera_size is \(32, 32\), not of effect without a c"),
        ("ant", {"camera": "track", "camera_size": (32, 0)}, "camera_size is .*not a height and"),
        ("ant", {"camera": "track", "camera_size": (32,)}, "camera_size.*takes 2 values"),
        ("ant", {"camera": "track", "camera_frames": 0}, "camera_frames is 0, not a whole number"),
        ("ant", {"camera": "track", "camera_far": -1.0}, "camera_far is -1.0, not a distance"),
        ("ant", {"camera": "track", "camera_far": 1e-40}, "camera_far is 1e-40, not a distance"),
        ("ant", {"camera": "track", "camera_groups": ()}, "nothing to draw: .*groups none"),
        ("ant", {"camera": "track", "camera_groups": (7,)}, "groups 7: those of geoms are 0 to 5"),
        ("ant", {"camera": "track", "camera_image": "grey"}, "camera_image.*'grey' is none of"),
        ("sumo", {"camera": "track"}, "camera is track, not offered where several agents act"),
    ],
)
def test_what_cannot_be_seen_is_refused(name: str, options: dict[str, Any], message: str):
    with pytest.raises(ValueError, match=message):
        gpusim.make(name, **options)


def test_many_observations_are_not_taken_for_one():
    world = gpusim.make("hopper", camera="track", camera_frames=2)
    assert world.observation_size == 12
    for shape in ((3, 12), (6,)):
        with pytest.raises(ValueError, match=r"hopper: a picture .* \(12,\), not of .*jax.vmap"):
            world.picture(jnp.zeros(shape))


def test_a_picture_of_one_s_own_is_not_the_camera_s():
    class Mine(InvertedPendulumPixels):
        def picture(self, obs):
            return jnp.zeros((4, 4, 3)) + obs[0]

    assert Mine().picture_shape == (4, 4, 3)
    assert Mine().picture_colours == 3


@pytest.mark.slow
def test_the_pendulum_is_kept_up_by_sight():
    """Small pictures are enough, and a sixth of the preset's steps for a beginning."""
    world = gpusim.make("inverted_pendulum_pixels", camera_size=(32, 32))
    config = PPOConfig(
        num_envs=64, unroll_length=32, num_minibatches=4, num_epochs=4, updates_per_call=4,
        total_steps=150_000, learning_rate=1e-3, gae_lambda=0.9, clip=0.2, reward_scale=0.1,
        activation="relu", conv_filters=(8, 16), conv_kernels=(4, 4), conv_strides=(4, 4),
    )  # fmt: skip
    learner = PPO(config, world, devices=1)
    state, returns = learner.init(jax.random.key(0)), []
    for _ in range(3):  # 24k steps
        state, report = learner.train_step(state)
        returns.append(float(report.metrics["episode_return"]))
    assert returns[0] < 12
    assert returns[-1] > 20
