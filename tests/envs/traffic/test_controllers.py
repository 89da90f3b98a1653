"""FollowerStopper and PI with saturation: numbers worked out by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gpusim.envs.traffic.controllers import follower_stopper, pi_memory, pi_saturation
from gpusim.envs.traffic.following import Sight


@pytest.mark.parametrize(
    ("see", "command"),
    [
        (Sight(v=5.0, v_lead=5.0, gap=4.0), 0.0),
        (Sight(v=5.0, v_lead=5.0, gap=4.875), 2.5),  # half way from 4.5 to 5.25
        (Sight(v=5.0, v_lead=5.0, gap=5.625), 5 + (8 - 5) / 2),  # half way from 5.25 to 6
        (Sight(v=5.0, v_lead=5.0, gap=7.0), 8.0),
        # Closing in at 2 m/s the band is 4.5 + 4/3, 5.25 + 2, 6 + 4.
        (Sight(v=5.0, v_lead=3.0, gap=8.625), 3 + (8 - 5) / 2),
        (Sight(v=5.0, v_lead=3.0, gap=5.8), 0.0),
        # A lead that is faster than desired is followed at the desired speed.
        (Sight(v=5.0, v_lead=20.0, gap=4.875), 4.0),
    ],
)
def test_follower_stopper(see: Sight, command: float):
    with jax.enable_x64():
        see = see._replace(**{name: jnp.asarray(getattr(see, name)) for name in ("v", "v_lead")})
        a = follower_stopper(see, desired=8.0)
        np.testing.assert_allclose(a, (command - see.v) / 0.1, rtol=1e-9, atol=1e-9)


def test_pi_saturation():
    with jax.enable_x64():
        memory = pi_memory(dt=0.1)
        assert memory.speeds.shape == (379,)
        # Gap 5 m behind a car as fast: alpha = (5 - 4) / 2, beta = 3/4; target = mean = 6.
        memory, a = pi_saturation(memory, Sight(v=jnp.asarray(6.0), v_lead=6.0, gap=5.0))
        np.testing.assert_allclose(memory.command, 0.75 * (3 + 3))
        np.testing.assert_allclose(a, (4.5 - 6) / 0.1)
        # Gap 18.5 m: alpha 1, target = (6 + 4) / 2 + 0.5; half of it, half of the last command.
        memory, a = pi_saturation(memory, Sight(v=jnp.asarray(4.0), v_lead=4.0, gap=18.5))
        np.testing.assert_allclose(memory.command, 0.5 * 5.5 + 0.5 * 4.5)
        np.testing.assert_allclose(a, 2.6)  # no faster
        for _ in range(400):  # what it saw first is forgotten
            memory, a = pi_saturation(memory, Sight(v=jnp.asarray(2.0), v_lead=2.0, gap=7.0))
        np.testing.assert_allclose(memory.command, 2.0)
        np.testing.assert_allclose(a, 0.0, atol=1e-6)
