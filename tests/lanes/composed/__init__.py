"""Random programs of one world, compiled to lanes and compared with XLA, element by element.

`python -m tests.lanes.composed --programs 5000 --seed 0` is a campaign: see `__main__.py`.

program.py    a program as data, its Python source, its arguments and what stands around it
generate.py   programs at random: values, statements, blocks
expressions.py  what a statement may be: arithmetic, indexing, reductions, linear algebra...
nesting.py    statements that hold programs: loops, branches, calls
check.py      runs a program both ways and says how they differ
guard.py      runs a kernel with every array between pages that cannot be touched
shrink.py     a smaller program that fails in the same way
campaign.py   many programs in processes of their own
kept.py       programs that once failed
"""
