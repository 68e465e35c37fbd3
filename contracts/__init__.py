"""What several parts of the project must agree on: errors, files, formats.

Here lives what more than one package reads or writes. It imports nothing of the project.
"""
