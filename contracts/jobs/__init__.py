"""Jobs as schedulers know them: their ids, their states, and why one waits, in plain words."""
