"""A deployment that outlives its jobs: when its client's job has the next ones submitted, and hands
requests over to them. A process beside the client service; lib/handover.sh does what needs the
scheduler."""
