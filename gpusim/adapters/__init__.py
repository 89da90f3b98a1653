"""gpusim inside what people already use; each module needs the package that it is called after."""


def register() -> None:
    """Make every registered world known to `gymnasium.make` and `make_vec`, as "gpusim/NAME".

    Gymnasium calls this when it is imported: nothing heavy is imported before a world is made.
    """
    import gymnasium

    from gpusim.envs import registry

    place = f"{__name__}.gymnasium"
    for name in registry.names():
        gymnasium.register(
            f"gpusim/{name}",
            entry_point=f"{place}:make",
            vector_entry_point=f"{place}:make_vec",
            kwargs={"name": name},
        )
