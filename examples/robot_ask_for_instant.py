"""How did the scene look at one instant? robot_ask_for_instant.py [AGO_US [OUT [ADDRESS CONTROL]]].

The instant is in device time, the clock of the camera. Here it lies a little before the newest moment that the
stream can answer; a robot would take the time stamp of its own trigger.
"""

import sys

import nire_live as nl

ago_us, out, *addresses = (*sys.argv[1:], *("5000", "instant.png")[len(sys.argv) - 1 :])
try:
    with nl.connect(*addresses) as stream:
        t_us = stream.newest_us - float(ago_us)
        nl.save(stream.expose(t_us), out)
    print(f"exposed at {t_us:.0f} us: {out}")
except nl.NireError as error:
    print(error, file=sys.stderr)
    sys.exit(error.exit_code)
