"""Random programs of one world, compiled to lanes and compared with XLA, element by element.

`python -m tests.lanes.composed --programs 5000 --seed 0` is a campaign: see `__main__.py`.

program.py    a program as data, its Python source, its arguments and what stands around it
generate.py   programs at random: values, statements, blocks
values.py     what is known of a value, and how values are made to fit
arithmetic.py, arrays.py, combining.py  what a statement may be
nesting.py    statements that hold programs: loops, branches, calls
check.py      runs a program both ways and says how they differ
guard.py      runs a kernel with every array between pages that cannot be touched
shrink.py     a smaller program that fails in the same way
campaign.py   many programs in processes of their own
"""
