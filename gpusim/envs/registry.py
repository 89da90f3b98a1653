"""Worlds by name, and by where their code is: `make`.

A name stands for a class or for where one is found, `package.module:Class`, which is imported when
the world is made: this file starts neither JAX nor MuJoCo.
"""

import dataclasses
import importlib
import importlib.util
import inspect
import math
import sys
import typing
from collections.abc import Callable, Mapping
from numbers import Integral
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from gpusim.envs.sizes import SIZES, Sizes
from gpusim.parse import typed
from gpusim.suggest import unknown

if TYPE_CHECKING:
    from gpusim.envs.world import World

Kind = TypeVar("Kind", bound="type[World]")

_WORLDS: dict[str, "str | type[World]"] = {
    "Acrobot-v1": "gpusim.envs.tasks.classic.acrobot:Acrobot",
    "CartPole-v1": "gpusim.envs.tasks.classic.cart_pole:CartPole",
    "MountainCar-v0": "gpusim.envs.tasks.classic.mountain_car:MountainCar",
    "MountainCarContinuous-v0": "gpusim.envs.tasks.classic.mountain_car:MountainCarContinuous",
    "Pendulum-v1": "gpusim.envs.tasks.classic.pendulum:Pendulum",
    "Ant-v5": "gpusim.envs.tasks.gymnasium.ant:Ant",
    "HalfCheetah-v5": "gpusim.envs.tasks.gymnasium.planar:HalfCheetah",
    "Hopper-v5": "gpusim.envs.tasks.gymnasium.planar:Hopper",
    "Humanoid-v5": "gpusim.envs.tasks.gymnasium.humanoid:Humanoid",
    "HumanoidStandup-v5": "gpusim.envs.tasks.gymnasium.humanoid:HumanoidStandup",
    "InvertedDoublePendulum-v5": "gpusim.envs.tasks.gymnasium.pendulum:InvertedDoublePendulum",
    "InvertedPendulum-v5": "gpusim.envs.tasks.gymnasium.pendulum:InvertedPendulum",
    "Pusher-v5": "gpusim.envs.tasks.gymnasium.arm:Pusher",
    "Reacher-v5": "gpusim.envs.tasks.gymnasium.arm:Reacher",
    "Swimmer-v5": "gpusim.envs.tasks.gymnasium.planar:Swimmer",
    "Walker2d-v5": "gpusim.envs.tasks.gymnasium.planar:Walker2d",
    "ant": "gpusim.envs.tasks.brax.ant:Ant",
    "half_cheetah": "gpusim.envs.tasks.brax.half_cheetah:HalfCheetah",
    "hopper": "gpusim.envs.tasks.brax.hopper:Hopper",
    "humanoid": "gpusim.envs.tasks.brax.humanoid:Humanoid",
    "humanoidstandup": "gpusim.envs.tasks.brax.humanoid:HumanoidStandup",
    "inverted_double_pendulum": "gpusim.envs.tasks.brax.pendulum:InvertedDoublePendulum",
    "inverted_pendulum": "gpusim.envs.tasks.brax.pendulum:InvertedPendulum",
    "pusher": "gpusim.envs.tasks.brax.pusher:Pusher",
    "reacher": "gpusim.envs.tasks.brax.reacher:Reacher",
    "swimmer": "gpusim.envs.tasks.brax.swimmer:Swimmer",
    "walker2d": "gpusim.envs.tasks.brax.walker2d:Walker2d",
    "humanoid_flagrun": "gpusim.envs.tasks.roboschool.flagrun:HumanoidFlagrun",
    "humanoid_flagrun_harder": "gpusim.envs.tasks.roboschool.harder:HumanoidFlagrunHarder",
    "humanoid_flagrun_harder_rough": "gpusim.envs.tasks.roboschool.rough:HumanoidHarderRough",
    "humanoid_flagrun_rough": "gpusim.envs.tasks.roboschool.rough:HumanoidFlagrunRough",
    "G1JoystickFlatTerrain": "gpusim.envs.tasks.playground.g1:G1JoystickFlatTerrain",
    "Go1Getup": "gpusim.envs.tasks.playground.getup:Go1Getup",
    "Go1JoystickFlatTerrain": "gpusim.envs.tasks.playground.go1:Go1JoystickFlatTerrain",
    "Go1JoystickRoughTerrain": "gpusim.envs.tasks.playground.go1:Go1JoystickRoughTerrain",
    "LeapCubeReorient": "gpusim.envs.tasks.playground.leap:LeapCubeReorient",
    "PandaPickCube": "gpusim.envs.tasks.playground.panda:PandaPickCube",
    "sumo": "gpusim.envs.tasks.games.sumo:Sumo",
    "cart_pole_pixels": "gpusim.envs.tasks.pixels.cart_pole:CartPolePixels",
    "inverted_pendulum_pixels": "gpusim.envs.tasks.pixels.pendulum:InvertedPendulumPixels",
    "side_scroller": "gpusim.envs.tasks.pixels.side_scroller:SideScroller",
    "Accel": "gpusim.envs.traffic.ring:Accel",
    "MultiAgentAccelPO": "gpusim.envs.traffic.ring:MultiAgentAccelPO",
    "MultiAgentMergePO": "gpusim.envs.traffic.merge:MultiAgentMergePO",
    "MultiAgentWaveAttenuationPO": "gpusim.envs.traffic.ring:MultiAgentWaveAttenuationPO",
    "MultiTrafficLightGridPO": "gpusim.envs.traffic.grid:MultiTrafficLightGridPO",
    "WaveAttenuation": "gpusim.envs.traffic.ring:WaveAttenuation",
    "WaveAttenuationPO": "gpusim.envs.traffic.ring:WaveAttenuationPO",
    "bottleneck0": "gpusim.envs.traffic.bottleneck:Bottleneck0",
    "bottleneck1": "gpusim.envs.traffic.bottleneck:Bottleneck1",
    "bottleneck2": "gpusim.envs.traffic.bottleneck:Bottleneck2",
    "figureeight0": "gpusim.envs.traffic.figure_eight:FigureEight0",
    "figureeight1": "gpusim.envs.traffic.figure_eight:FigureEight1",
    "figureeight2": "gpusim.envs.traffic.figure_eight:FigureEight2",
    "grid0": "gpusim.envs.traffic.grid:Grid0",
    "grid1": "gpusim.envs.traffic.grid:Grid1",
    "merge0": "gpusim.envs.traffic.merge:Merge0",
    "merge1": "gpusim.envs.traffic.merge:Merge1",
    "merge2": "gpusim.envs.traffic.merge:Merge2",
}
_GYMNASIUM = ("gpusim.envs.tasks.gymnasium.", "gpusim.envs.tasks.classic.")  # where its tasks are
_SPELLINGS = {"halfcheetah": "half_cheetah"}  # Brax's: ours
OURS = ("mujoco", "mjx")
"""Physics that compute our own tasks, with their options."""
# What computes a world: a function of its name and options, by where it is found.
_PHYSICS = {
    "mujoco": "gpusim.envs.registry:_make",
    "mjx": "gpusim.envs.engines:make_mjx",
    "playground": "gpusim.envs.playground_world:make",
    "gym": "gpusim.envs.gymnasium_world:make",
    "envpool": "gpusim.envs.envpool_world:make",
    "retro": "gpusim.envs.retro_world:make",
    "brax-spring": "gpusim.envs.brax_world:spring",
    "brax-positional": "gpusim.envs.brax_world:positional",
    "brax-generalized": "gpusim.envs.brax_world:generalized",
}
# What some of them need: a module, and the package that has it.
_NEEDS = {
    "mjx": ("mujoco.mjx", "mujoco-mjx"),
    "playground": ("mujoco_playground", "playground"),
    "gym": ("gymnasium", "gymnasium"),
    "envpool": ("envpool", "envpool"),
    "retro": ("stable_retro", "stable-retro"),
    **{name: ("brax", "brax") for name in _PHYSICS if name.startswith("brax")},
}
_HOSTED = ("gym", "envpool", "retro")  # physics that step on the host, outside of JAX
_SUITES = ("brax", "playground", *_HOSTED)  # of other people's environments, SUITE:NAME


def register(world: Kind) -> Kind:
    """Make a world known to `make` by its `name`; a class decorator. A later one replaces it."""
    _WORLDS[world.name] = world
    return world


def names() -> list[str]:
    """The registered names."""
    return sorted(_WORLDS)


def families() -> dict[str, list[str]]:
    """The registered names by what they are; what somebody registered himself comes first."""
    places = {
        "your own": "",
        "robots (Brax's tasks)": "gpusim.envs.tasks.brax.",
        "robots (Gymnasium's tasks)": "gpusim.envs.tasks.gymnasium.",
        "robots (Roboschool's tasks)": "gpusim.envs.tasks.roboschool.",
        "robots on command (Playground's tasks)": "gpusim.envs.tasks.playground.",
        "robots against each other": "gpusim.envs.tasks.games.",
        "seen in pictures": "gpusim.envs.tasks.pixels.",
        "classic control (Gymnasium's tasks)": "gpusim.envs.tasks.classic.",
        "traffic (Flow's benchmarks)": "gpusim.envs.traffic.",
    }
    found: dict[str, list[str]] = {title: [] for title in places}
    for name in names():
        world = _WORLDS[name]
        where = world if isinstance(world, str) else f"{world.__module__}."
        found[next(t for t, place in [*places.items()][::-1] if where.startswith(place))] += [name]
    return {title: its for title, its in found.items() if its}


def spelled(name: str) -> str:
    """The name under which a world is registered: Brax's spelling is understood too."""
    return _SPELLINGS.get(name, name)


def make(name: str, *, physics: str = "mujoco", **options: Any) -> "World":
    """Create a world: `make("ant", reset_noise_scale=0.2)`.

    name: a registered one, "path/to/file.py:Class" or "package.module:Class". physics: "mujoco";
    "mjx", the same task by MJX through XLA; or somebody else's, whose environments and options are
    his own: "playground", or Brax's "brax-spring", "brax-positional", "brax-generalized" (see
    docs/brax.md). "playground:NAME" and "brax:NAME@spring" say both in one name; so do "gym:ID",
    "envpool:ID" and "retro:GAME", environments that step on the host (docs/adapters.md).

    Raises ValueError for a name, physics or option that is not known.
    """
    if not isinstance(name, str):
        raise ValueError(f"an environment is made by its name, such as 'ant', not {name!r}")
    suite = ""
    if of_suite(name):
        if physics != "mujoco":
            raise ValueError(f"{name} has physics of its own: leave out {physics!r}")
        suite, _, name = name.partition(":")
        physics = suite
        if suite == "brax":
            name, at, backend = name.partition("@")
            if not at:
                raise ValueError(
                    f"brax:{name}: by which of Brax's physics? Write brax:{name}@spring"
                )
            physics = f"brax-{backend}"
    if physics not in _PHYSICS:
        raise ValueError(unknown("physics", physics, _PHYSICS))
    if physics in _HOSTED and not suite:
        raise ValueError(f"an environment of {physics} is called {physics}:{name}, without physics")
    if physics in _NEEDS and importlib.util.find_spec(_NEEDS[physics][0]) is None:
        package = _NEEDS[physics][1]
        raise ValueError(f"physics {physics!r} needs {package}: pip install {package}")
    try:
        factory: Callable[..., World] = find(_PHYSICS[physics])
    except ModuleNotFoundError as error:  # of what that package needs in turn
        raise ValueError(
            f"physics {physics!r} needs {error.name}, too: pip install {error.name}"
        ) from error
    return factory(spelled(name), **options)


def missing(name: str) -> str:
    """Why a registered world cannot be made here: what it reads is not installed; "" if it can."""
    try:
        make(name)
    except ValueError as error:
        return str(error)
    return ""


def sizes(name: str) -> Sizes:
    """How large a registered world is; one that somebody registered himself is made for it.

    Raises ValueError if that cannot be made here.
    """
    name = spelled(name)
    ours = isinstance(_WORLDS.get(name), str)
    return SIZES[name] if ours else Sizes.of(make(name))


def of_gymnasium(name: str) -> bool:
    """Is this the name of one of our own worlds that are Gymnasium's tasks?"""
    place = _WORLDS.get(spelled(name))
    return isinstance(place, str) and place.startswith(_GYMNASIUM)


def of_suite(name: str) -> bool:
    """Is this the name of somebody else's environment, SUITE:NAME?"""
    return name.partition(":")[0] in _SUITES and ":" in name


def hosted(name: str) -> bool:
    """Does this environment step on the host, outside of JAX?"""
    return of_suite(name) and name.partition(":")[0] in _HOSTED


def world_class(name: str) -> "type[World]":
    """The class that a name of `make` stands for."""
    name = spelled(name)
    known = name if ":" in name else _WORLDS.get(name)
    if name.endswith(".py"):
        raise ValueError(f"{name} is a file: which of its classes? Write {name}:Class")
    if known is None:
        raise ValueError(
            unknown("environment", name, _WORLDS)
            + "; or one of your own: path/to/file.py:Class, package.module:Class"
        )
    return find(known) if isinstance(known, str) else known


def lineage(name: str) -> tuple[str, ...]:
    """The name of a world and, for one of the user's own, the names of those that its class is
    derived from, nearest first."""
    name = spelled(name)
    own = isinstance(_WORLDS.get(name), type) or (":" in name and not of_suite(name))
    if not own:
        return (name,)
    try:
        kind = world_class(name)
    except Exception:  # whatever the user's code raises: who makes the world tells it
        return (name,)
    return (name, *(c.name for c in kind.__mro__ if "name" in vars(c)))


def option_types(name: str, physics: str = "mujoco") -> Mapping[str, Any] | None:
    """The options of a world's constructor: name -> type, `Any` where none is said; None where
    the options are somebody else's, who checks them."""
    if physics not in OURS or of_suite(name):
        return None
    kind = world_class(name)
    hints = typing.get_type_hints(kind if dataclasses.is_dataclass(kind) else kind.__init__)
    if dataclasses.is_dataclass(kind):
        names = [field.name for field in dataclasses.fields(kind) if field.init]
    else:
        names = list(inspect.signature(kind).parameters)
    return {name: hints.get(name, Any) for name in names}


def find(place: str) -> Any:
    """What "path/to/file.py:name" or "package.module:name" means.

    Raises ValueError, naming the file or module, where there is none.
    """
    module_name, _, name = place.rpartition(":")
    if not module_name or not name:
        raise ValueError(f"{place!r}: write path/to/file.py:Class, or package.module:Class")
    module = _from_file(module_name) if module_name.endswith(".py") else _import(module_name)
    if not hasattr(module, name):
        own = lambda x: isinstance(x, type) and x.__module__ == module.__name__
        classes = [n for n, x in vars(module).items() if own(x)]
        raise ValueError(unknown(f"class in {module_name}:", name, classes))
    return getattr(module, name)


def _make(name: str, **options: Any) -> "World":
    """A world of our own or of the user's."""
    known = option_types(name) or {}
    for option in options:
        if option not in known:
            raise ValueError(unknown(f"option of environment {name!r}:", option, known))
        try:
            options[option] = _checked(options[option], known[option])
        except ValueError as error:
            raise ValueError(f"option {option} of environment {name!r}: {error}") from error
    kind = world_class(name)
    missing = ", ".join(sorted(getattr(kind, "__abstractmethods__", ())))
    if missing:
        raise ValueError(f"environment {name!r}: {kind.__name__} lacks {missing}")
    world = kind(**options)
    if not hasattr(world, "transition"):
        raise ValueError(
            f"environment {name!r}: {kind.__name__} is no world; derive it from gpusim.envs.World, "
            "or from MujocoTask"
        )
    agents = world.agents
    if isinstance(agents, bool) or not isinstance(agents, Integral) or agents < 1:
        raise ValueError(
            f"environment {name!r}: agents is {agents!r}, not a whole number from 1 on"
        )
    return world


def _checked(value: Any, kind: Any) -> Any:
    """An option, as its type says; arrays, and what is no plain value, are left to the world.
    Raises ValueError."""
    if not isinstance(value, bool | int | float | str | tuple | list):
        return value
    value = typed(value, kind)
    numbers = value if isinstance(value, tuple) else [value]
    if any(isinstance(x, float) and math.isnan(x) for x in numbers):
        raise ValueError(f"{value} is not a number")
    return value


def _import(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{name}.".startswith(f"{error.name}."):
            raise  # the module is there, and lacks something itself
        raise ValueError(f"there is no module {name!r} to import") from error


def _from_file(file: str) -> Any:
    """The module of a file, run once in a process for each state the file is in."""
    path = Path(file).expanduser().resolve()
    if not path.is_file():
        raise ValueError(f"there is no file {file}")
    name = f"gpusim_user_{path.stem}_{abs(hash((str(path), path.stat().st_mtime_ns))):x}"
    if name in sys.modules:
        return sys.modules[name]
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses look for their module here
    sys.path.insert(0, str(path.parent))  # the file's neighbours, as for a script
    _forget_neighbours_of_others(path.parent)
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    finally:
        sys.path.remove(str(path.parent))
    return module


_folders: set[Path] = set()  # where the user's files were found


def _forget_neighbours_of_others(folder: Path) -> None:
    """Two files may import `helpers`, each the one beside it."""
    for file in folder.glob("*.py"):
        place = getattr(sys.modules.get(file.stem), "__file__", None)
        if place and Path(place).parent in _folders - {folder}:
            del sys.modules[file.stem]
    _folders.add(folder)
