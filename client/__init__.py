"""The parts of the client service; clientService.py puts them together."""
