"""What runs jobs: one small interface, a package for each scheduler.

It imports contracts and, of hpc, signals and times. Nothing outside imports one of the packages:
`registry` has them by their names.
"""
