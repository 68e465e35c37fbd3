"""What becomes of a deployment of which nobody asks anything: who sees that, and who tells of it.
What is done then, the client's job does (lib/idle.sh)."""
