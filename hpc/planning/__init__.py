"""The plan: recipe and site put together, each value with where it came from.

It imports contracts and, of hpc, recipe, site, images, and what schedulers are; none of them by
name.
"""
