"""The commands of orch.py, a module each; orch.py dispatches to them.

A command may import all of hpc; nothing else in hpc imports a command.
"""
