"""gpusim inside what people already use; each module needs the package that it is called after."""
