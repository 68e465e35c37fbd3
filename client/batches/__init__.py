"""Batches at the door: how much room there is for them, the files that they are made of, and who
works them off. May import what client/ may: the work itself is a process of its own, package
`batch`, of which only the files that it writes are known here."""
