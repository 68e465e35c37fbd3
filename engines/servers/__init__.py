"""The engines that a deployment starts servers of: each in a module that fills the interface of
deployed.py, with what recipes may tell it beside that; all by name in deployable.py."""
