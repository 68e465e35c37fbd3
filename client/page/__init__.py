"""The page that a browser is shown at the door: its files, which no other server is asked for, the
one-time links that let a browser in, and its sessions. What the page shows is the live state's."""
