"""Connections that open and stay, up to `flows`: each asks once, then again every `pause` seconds.

Tunables: flows, cps (at which they open), pause (seconds), requests (of each), size, vip, port, first_client, last_client.
"""

import os
import sys

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import sessions


class Ramp:
    def get_profile(self, tunables=(), **_):
        args = sessions.tunables(
            flows=10_000_000, cps=100_000.0, pause=60, requests=10, size=64, last_client="16.3.255.254"
        ).parse_args(list(tunables))
        programs = sessions.session(args, args.requests, args.size, pause_usec=args.pause * 1_000_000)
        return sessions.profile(args, [sessions.template(args, programs, args.cps, limit=args.flows, keep=True)])


def register():
    return Ramp()
