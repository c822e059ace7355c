"""Deblur a recording from Python, one sharp frame for each captured one: offline_deblur.py RECORDING OUT."""

import sys

import nire_live as nl

recording, out = sys.argv[1:] if len(sys.argv) == 3 else sys.exit(f"usage: {sys.argv[0]} RECORDING OUT")
try:
    print(f"{nl.save(nl.reexpose(recording, 'deblur'), out)} sharp frames in {out}")
except nl.NireError as error:
    print(error, file=sys.stderr)
    sys.exit(error.exit_code)
