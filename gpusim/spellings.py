"""What people coming from other programs type, and what it is called here."""

SPELLINGS: dict[str, tuple[str, ...]] = {
    "steps": ("total_steps",),
    "total_timesteps": ("total_steps",),
    "num_timesteps": ("total_steps",),
    "timesteps": ("total_steps",),
    "lr": ("learning_rate",),
    "hidden": ("policy_hidden", "value_hidden"),
    "hidden_sizes": ("policy_hidden", "value_hidden"),
    "envs": ("num_envs",),
    "n_envs": ("num_envs",),
    "worlds": ("num_envs",),
    "num_worlds": ("num_envs",),
    "env_id": ("env",),
    "env_name": ("env",),
    "task": ("env",),
    "gamma": ("discount",),
    "lam": ("gae_lambda",),
    "ent_coef": ("entropy_cost",),
    "vf_coef": ("value_cost",),
    "clip_range": ("clip",),
    "minibatches": ("num_minibatches",),
    "update_epochs": ("num_epochs",),
    "n_epochs": ("num_epochs",),
    "grad_clip": ("max_grad_norm",),
    "algo": ("learner",),
    "algorithm": ("learner",),
    "output": ("out",),
    "logdir": ("out",),
    "log_dir": ("out",),
    "n_seeds": ("num_seeds",),
}
"""--NAME stands for each of these."""

ANSWERS = {
    "n_steps": "--steps ends the run; --unroll-length steps are made between two updates",
    "num_steps": "--steps ends the run; --unroll-length steps are made between two updates",
    "horizon": "--episode-length is a world's; --unroll-length steps are made between two updates",
    "epochs": "--num-epochs goes over each batch so often; --steps ends the run",
    "batch_size": "a batch is --num-envs times --unroll-length steps, in --num-minibatches parts",
    "num_workers": "worlds are not spread over processes: --num-envs says how many there are, "
    "--devices what they share",
    "device": "JAX takes a GPU where it finds one, python -m gpusim.doctor says why not; "
    "JAX_PLATFORMS=cpu keeps to the CPU",
    "name": "--out names the run folder",
    "render": "the report shows the robot; python -m gpusim.play RUN --video writes a film",
}
"""What has no one flag here."""

for _name in ("gpu", "cuda", "gpus"):
    ANSWERS[_name] = ANSWERS["device"]
ANSWERS["workers"] = ANSWERS["num_workers"]
ANSWERS["exp_name"] = ANSWERS["run_name"] = ANSWERS["name"]
