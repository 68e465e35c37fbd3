"""Two runs, or two sets of runs, side by side: `python3 -m loadgen compare A B`.

It imports of loadgen what measures and what draws.
"""
