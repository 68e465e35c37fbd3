"""What several parts of the project must agree on: errors, files, formats.

Here lives what more than one package reads or writes. It imports nothing of the project.
"""

import os

# Nobody's plugins of pydantic change what a recipe or a body means; looking for them reads all
# installed packages.
os.environ.setdefault("PYDANTIC_DISABLE_PLUGINS", "__all__")
