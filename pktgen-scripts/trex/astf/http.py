"""New connections: request, answer, close, at `cps` a second.

Tunables: cps, size (bytes of the answer), vip, port, first_client, last_client.
"""

import os
import sys

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import sessions


class Http:
    def get_profile(self, tunables=(), **_):
        args = sessions.tunables(cps=1000.0, size=128).parse_args(list(tunables))
        return sessions.profile(args, [sessions.template(args, sessions.session(args, 1, args.size), args.cps)])


def register():
    return Http()
