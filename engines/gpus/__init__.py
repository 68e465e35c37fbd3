"""What one must know of the GPUs of this machine: each vendor's a module."""
