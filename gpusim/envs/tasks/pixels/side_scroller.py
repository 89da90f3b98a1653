"""A side-scroller that is seen in pictures: run to the right over gaps and blocks, without falling.

Of our own, after the way Sonic is learned by sonic-on-ray: 80 x 80 grey pictures, the last four
stacked, seven choices, 0.01 for every pixel further to the right. Everything in it is a whole
number of pixels, so that the picture shows exactly what the runner collides with. A world keeps
the few numbers that the picture is drawn of (`picture`), and the learner draws it where it looks.
"""

import dataclasses
import functools
from typing import Any, ClassVar, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from gpusim.envs.tasks.pixels.levels import COLUMNS, GOAL, HELD_OUT, SLAB, WALL, Level, levels
from gpusim.envs.world import Discrete, State, World

TILE = 8  # pixels
SIZE = 80  # pixels of a picture, both ways
FRAMES = 4  # pictures that are stacked, the newest first
LEFT_OF = 24  # pixels that are seen to the left of the runner
SEEN = 13  # columns that some of the four pictures may show: they begin at most 15 pixels apart

WIDE, TALL, LOW = 6, 12, 7  # pixels of the runner, and how tall it is when it ducks
RUN, CRAWL = 5, 2  # pixels a step, at most
JUMP, FALL = 6, 7  # pixels a step: upwards at first, downwards at most

SKY, SOLID, RUNNER = 0.0, 0.5, 1.0  # grey
CHOICES = ("left", "right", "jump", "left and jump", "right and jump", "duck", "right and duck")
_TO = np.array([-1.0, 1, 0, -1, 1, 0, 1])  # where each choice runs
_JUMPS = np.array([0.0, 0, 1, 1, 1, 0, 0])
_DUCKS = np.array([0.0, 0, 0, 0, 0, 1, 1])

MOST = 4000  # levels: all of them are constants of a kernel
SHOWN = 16  # columns of a replay around the runner


class Runner(NamedTuple):
    """Where the runner is, in pixels from the level's lower left corner, and how it moves."""

    level: jax.Array  # () int32: which of the world's levels
    x: jax.Array  # (FRAMES,) of its left side, now and before
    y: jax.Array  # (FRAMES,) of its feet
    tall: jax.Array  # (FRAMES,)
    vx: jax.Array  # () pixels a step
    vy: jax.Array  # ()
    far: jax.Array  # () the furthest x of the episode, at most the goal's


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class SideScroller(World):
    """Run to the right through levels drawn from a seed; falling into a gap ends the episode.

    Choices: left, right, jump, left and jump, right and jump, duck, right and duck. The speed
    changes by one pixel a step towards 5 (ducked 2), in the air too; a jump is 21 pixels high, and
    65 wide at full speed. Every pixel further to the right than before earns 0.01, a whole level
    16.24.
    """

    levels: Literal["training", "held-out"] = "training"
    """Which levels episodes are drawn from; both kinds are never the same."""
    num_levels: int = 100
    """How many there are."""

    name = "side_scroller"
    action_space: ClassVar[Discrete] = Discrete(len(CHOICES))
    dt = 0.05
    max_episode_steps = 1000
    gauges: ClassVar[dict[str, str]] = {"distance": "distance, pixels"}

    def __post_init__(self):
        if self.levels not in ("training", "held-out"):
            raise ValueError(f"{self.name}: levels is {self.levels!r}, not training or held-out")
        if not 1 <= self.num_levels <= MOST:
            raise ValueError(
                f"{self.name}: num_levels is {self.num_levels}, not a number from 1 to {MOST}"
            )

    @functools.cached_property
    def map(self) -> Level:
        """(num_levels, COLUMNS) each."""
        return levels(HELD_OUT if self.levels == "held-out" else 0, self.num_levels)

    # ---- how the runner moves

    def start(self, key: jax.Array) -> State:
        """On the ground at the left end of one of the levels."""
        level = jax.random.randint(key, (), 0, self.num_levels)
        every = lambda x: jnp.full(FRAMES, float(x))
        x, y = (WALL + 1) * TILE, 2 * TILE
        zero = jnp.zeros(())
        return self._seen(
            Runner(level, every(x), every(y), every(TALL), zero, zero, jnp.full((), float(x)))
        )

    def transition(self, state: State, action: jax.Array) -> State:
        """It ducks or gets up, then moves sideways, then up or down."""
        was: Runner = state.carry
        x, y, before = was.x[0], was.y[0], was.tall[0]
        floor, ceiling = self._gap(was.level, x, y, before)
        to, jumps, ducks = (jnp.asarray(table)[action] for table in (_TO, _JUMPS, _DUCKS))
        low = (ducks > 0) | (ceiling - y < TALL)
        tall = jnp.where(low, float(LOW), float(TALL))

        wanted = to * jnp.where(low, float(CRAWL), float(RUN))
        vx = was.vx + jnp.clip(wanted - was.vx, -1.0, 1.0)
        aside = x + vx
        column = jnp.floor(jnp.where(vx > 0, aside + WIDE - 1, aside) / TILE)  # it comes into
        ground, slab = self._column(was.level, column)
        blocked = (y < ground) | ((slab > 0) & (y < slab + SLAB * TILE) & (y + tall > slab))
        beside = jnp.where(vx > 0, TILE * column - WIDE, TILE * (column + 1))
        x, vx = jnp.where(blocked, beside, aside), jnp.where(blocked, 0.0, vx)

        stands = y == floor
        vy = jnp.where(stands & (jumps > 0), float(JUMP), jnp.maximum(was.vy - 1, -float(FALL)))
        floor, ceiling = self._gap(was.level, x, y, tall)
        there = jnp.clip(y + vy, floor, ceiling - tall)
        vy = jnp.where(there == y + vy, vy, 0.0)

        now = lambda new, old: jnp.concatenate([new[None], old[:-1]])
        far = jnp.maximum(was.far, jnp.minimum(x, GOAL * TILE))
        after = Runner(
            was.level, now(x, was.x), now(there, was.y), now(tall, was.tall), vx, vy, far
        )
        over = (there < 0) | (x >= GOAL * TILE)
        return self._seen(after, reward=0.01 * (far - was.far), over=over)

    def _gap(self, level: Any, x: Any, y: Any, tall: Any) -> tuple[jax.Array, jax.Array]:
        """The highest solid thing below the runner and the lowest one above it, pixels."""
        left, right = jnp.floor(x / TILE), jnp.floor((x + WIDE - 1) / TILE)
        floor, ceiling = jnp.full((), -100.0), jnp.full((), 1000.0)
        for column in (left, right):
            ground, slab = self._column(level, column)
            top = slab + SLAB * TILE
            floor = jnp.maximum(floor, jnp.where(ground > 0, ground, -100.0))
            floor = jnp.where((slab > 0) & (top <= y), jnp.maximum(floor, top), floor)
            above = (slab > 0) & (slab >= y + tall)
            ceiling = jnp.where(above, jnp.minimum(ceiling, slab), ceiling)
        return floor, ceiling

    def _column(self, level: Any, column: Any) -> tuple[jax.Array, jax.Array]:
        """How high ground and slab are in a column, pixels."""
        at = jnp.clip(column, 0, COLUMNS - 1).astype(jnp.int32)
        ground, slab = (jnp.asarray(x)[level, at].astype(float) for x in self.map)
        return TILE * ground, TILE * slab

    # ---- what is seen of it

    def _seen(self, runner: Runner, reward: Any = 0.0, over: Any = False) -> State:
        """The columns in view from the left-most of the four cameras on; then of each picture, the
        newest first, where its camera is, where the runner's feet are and how tall it is."""
        camera = runner.x - LEFT_OF
        first = jnp.floor(camera.min() / TILE)
        ground, slab = self._column(runner.level, first + jnp.arange(SEEN))
        obs = jnp.concatenate([ground, slab, camera - TILE * first, runner.y, runner.tall])
        distance = runner.x[0] - (WALL + 1) * TILE
        return State.of(runner, obs, reward=reward, terminated=over, metrics={"distance": distance})

    def picture(self, obs: jax.Array) -> jax.Array:
        """(80, 80, 4): rows from above, columns from the left, the newest picture first."""
        ground, slab, rest = obs[:SEEN], obs[SEEN : 2 * SEEN], obs[2 * SEEN :]
        camera, y, tall = rest.reshape(3, FRAMES)
        across = jnp.arange(SIZE)
        up = jnp.arange(SIZE)[::-1, None, None]  # (rows, 1, 1)
        column = (camera + across[:, None]).astype(jnp.int32) // TILE  # (columns, FRAMES)
        ground, slab = ground[column], slab[column]
        solid = (up < ground) | ((slab > 0) & (up >= slab) & (up < slab + SLAB * TILE))
        beside = (across >= LEFT_OF) & (across < LEFT_OF + WIDE)
        runner = beside[:, None] & (up >= y) & (up < y + tall)
        return jnp.where(runner, RUNNER, jnp.where(solid, SOLID, SKY))

    # ---- what is drawn of it in a replay, a tile being a metre

    def drawing(self) -> Any:
        """The runner and `SHOWN` columns, each of which can be set to any place and height."""
        from gpusim.envs.tasks.classic import drawing

        slide = lambda axis: f'<joint type="slide" axis="{axis}"/>'
        box = lambda size, at, colour: (
            f'<geom type="box" size="{size}" pos="{at}" rgba="{colour}" mass="1"/>'
        )
        wide, tall, low = WIDE / TILE / 2, TALL / TILE / 2, LOW / TILE / 2
        runner = f"""
          <body>{slide("1 0 0")}{slide("0 0 1")}
            {box(f"{wide} .3 {low}", f"{wide} 0 {low}", drawing.RED)}
            <body>{slide("0 0 1")}
              {box(f"{wide} .3 {tall - low}", f"{wide} 0 {low + tall}", drawing.RED)}
            </body>
          </body>"""
        part = lambda its: f"<body>{slide('1 0 0')}{slide('0 0 1')}{its}</body>"
        ground = box(".5 .5 4", ".5 0 -4", ".45 .6 .4 1")
        slab = box(f".5 .5 {SLAB / 2}", f".5 0 {SLAB / 2}", drawing.GREY)
        return drawing.model(runner + SHOWN * (part(ground) + part(slab)))

    def pose(self, state: State) -> jax.Array:
        """Of the runner, then of ground and slab of every column. A slab that is none is buried,
        ground that is none lies below the floor, and the wall is shown as high as blocks are."""
        runner: Runner = state.carry
        x, y, tall = runner.x[0], runner.y[0], runner.tall[0]
        first = jnp.floor(x / TILE) - SHOWN // 3
        column = first + (jnp.arange(SHOWN) - first) % SHOWN  # each stays where it is while seen
        ground, slab = self._column(runner.level, column)
        ground = jnp.where(ground > 0, jnp.minimum(ground / TILE, 6), -1.5)
        slab = jnp.where(slab > 0, slab / TILE, -5.0)
        columns = jnp.stack([column, ground, column, slab], axis=1)
        return jnp.concatenate([jnp.stack([x, y, tall - TALL]) / TILE, columns.ravel()])
