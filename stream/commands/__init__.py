"""What the commands do, a file each; `stream/cli.py` has their names and options."""
