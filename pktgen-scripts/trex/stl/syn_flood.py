"""SYNs from random addresses and ports: each asks for a connection that is never finished. Run it beside trex/astf/http.py
on the same box: the real clients must not suffer.

Tunables: mpps, clients (addresses that it draws from), vip.
"""

import os
import sys

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import traffic


class SynFlood:
    def get_streams(self, direction=0, tunables=(), **_):
        args = traffic.tunables(clients=1_000_000).parse_args(list(tunables))
        if direction != 0:
            return []
        return [traffic.to_service(args, "tcp", 80, first="17.0.0.1", random=True, port_range=(1024, 65535))]


def register():
    return SynFlood()
