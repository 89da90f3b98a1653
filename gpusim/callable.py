"""Modules that are called: `gpusim.train("ant")` calls the function `train` of `gpusim.train`.

`python -m gpusim.train` wants a module of this name, and Python makes it the package's attribute
whenever it is imported: a function of the same name there would be the module or not, depending on
what was imported before. So the name is always the module, and the module can be called.
"""

import inspect
import sys
import types
from typing import Any


class CallableModule(types.ModuleType):
    """A module that is called like its function of the same name."""

    @property
    def _function(self) -> Any:
        return vars(self)[vars(self)["__name__"].rpartition(".")[2]]

    @property
    def __signature__(self) -> inspect.Signature:
        return inspect.signature(self._function)

    def __call__(self, *arguments: Any, **options: Any) -> Any:
        return self._function(*arguments, **options)


def callable_module(name: str) -> None:
    """Make the module of this name callable."""
    sys.modules[name].__class__ = CallableModule
