"""The solver, judged by the cost it reaches and by the conditions of optimality."""

# pyright: reportAttributeAccessIssue=false
# (mujoco's module has no type stubs)

import mujoco
import numpy as np
import pytest

from gpusim.physics.constraint.blocks import Coordinates
from gpusim.physics.constraint.laws import OneSided, Params
from gpusim.physics.constraint.solver import solve_constraints
from gpusim.physics.model import Options
from tests import oracles
from tests.physics.harness import close, over_worlds, run, run_model, state_of

PATIENT = Options(
    timestep=0.01, iterations=50, ls_iterations=50, tolerance=1e-14, impratio=1.0,
    elliptic=False, refsafe=True, integrator="euler", disabled=frozenset(), groups_off=frozenset(),
    density=0.0, viscosity=0.0, wind=(0.0, 0.0, 0.0), noslip_iterations=0, noslip_tolerance=1e-6,
)  # fmt: skip


@pytest.mark.parametrize("name", oracles.BRAX_MODELS)
def test_optimal(name: str):
    """Gradient zero (the residual of the KKT conditions), by an independent formula."""
    done = run(name)
    for d, qacc in zip(done.sample.before, done.derived.qacc, strict=True):
        gradient = oracles.solver_gradient(done.model.mj, d, qacc)
        assert np.abs(gradient).max() < 1e-9 * (1 + np.abs(d.qfrc_smooth).max())


@pytest.mark.parametrize("name", ["ant", "walker2d"])
def test_no_worse_than_c_after_as_many_steps(name: str):
    """With the model's own few iterations, both engines stop early: ours at no higher cost."""
    m = mujoco.MjModel.from_xml_path(str(oracles.asset(name)))
    sample = oracles.sample_of(m, seed=1)
    done = run_model(m, sample)
    assert done.derived.solver_niter.max() <= m.opt.iterations
    for d, qacc in zip(sample.before, done.derived.qacc, strict=True):
        theirs = oracles.solver_cost(m, d, d.qacc)
        assert oracles.solver_cost(m, d, qacc) <= theirs + 1e-9 * (1 + abs(theirs))


def test_no_active_constraint_means_the_smooth_acceleration():
    done = run("ant")
    free = np.array([d.nefc == 0 for d in done.sample.before])
    assert free.sum() >= 2
    np.testing.assert_array_equal(done.derived.solver_niter[free], 0)
    np.testing.assert_array_equal(done.derived.qacc[free], done.derived.qacc_smooth[free])
    np.testing.assert_array_equal(done.derived.qfrc_constraint[free], 0)


def test_warm_start_saves_steps_but_decides_nothing():
    done = run("hopper")
    settled = state_of(done.sample)._replace(qacc_warmstart=done.derived.qacc)
    _, again = done.step(settled, done.sample.ctrl)
    assert again.solver_niter.sum() < done.derived.solver_niter.sum()
    close(again.qacc, done.derived.qacc)
    misled = settled._replace(qacc_warmstart=done.derived.qacc + 1e4)
    _, recovered = done.step(misled, done.sample.ctrl)
    close(recovered.qacc, done.derived.qacc)


@pytest.mark.parametrize("poison", [np.nan, np.inf])
def test_a_diverged_world_is_seen_and_disturbs_nobody(poison: float):
    done = run("ant")
    sick = 5
    qvel = done.sample.qvel.copy()
    qvel[sick, 3] = poison
    state = state_of(done.sample)._replace(qvel=qvel)
    after, _ = done.step(state, done.sample.ctrl)
    others = np.arange(len(qvel)) != sick
    assert not np.isfinite(after.qvel[sick]).all()
    close(after.qvel[others], done.state.qvel[others], 1e-12)


def one_dof(mass, smooth, arefs, stiffness, warm):
    """Minimise ½ m (a - smooth)² + Σ ½ Dᵢ min(a - arefᵢ, 0)² over one number a."""
    k = arefs.shape[0]
    rows = Coordinates(OneSided(1), Params(stiffness), [0] * k, np.ones((k, 1)), arefs[:, None], 1)
    return solve_constraints(PATIENT, 1.0, mass, smooth, [rows], warm)


def test_one_dimensional_problems_by_bisection():
    """The derivative of a convex cost in one variable has one root, which bisection finds."""
    rng = np.random.default_rng(0)
    n, k = 64, 6
    mass = rng.uniform(0.1, 10, (n, 1, 1))
    smooth, warm = 5 * rng.standard_normal((2, n, 1))
    arefs = 5 * rng.standard_normal((n, k))
    stiffness = 10 ** rng.uniform(-2, 4, (n, k)) * rng.integers(0, 2, (n, k))
    solution = over_worlds(one_dof)(mass, smooth, arefs, stiffness, warm)

    def derivative(a):
        return mass[:, :, 0] * (a - smooth) + (stiffness * np.minimum(a - arefs, 0)).sum(
            1, keepdims=True
        )

    low, high = np.full((n, 1), -100.0), np.full((n, 1), 100.0)
    for _ in range(100):
        middle = 0.5 * (low + high)
        left = derivative(middle) < 0
        low, high = np.where(left, middle, low), np.where(left, high, middle)
    close(solution.qacc, low, 1e-12)
    close(solution.force, mass[:, :, 0] * (low - smooth), 1e-9)
