"""The commands by which somebody gets in at a door: where it is, a way to it, tokens, links.

What is said of hpc/commands/ goes for them, too.
"""
