"""Connections up to ten million and more: UDP tuples in order, each visited in turn. Start it with few clients, raise `clients`,
and watch `pollux_conntrack_*`; what the rate loses is the cost of a cold table.

Tunables: clients, ports (connections = clients x ports), mpps, size, vip.
"""

import os
import sys

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import traffic


class Ramp:
    def get_streams(self, direction=0, tunables=(), **_):
        args = traffic.tunables(clients=170, ports=60000).parse_args(list(tunables))
        return [traffic.to_service(args, "udp", 53)] if direction == 0 else []


def register():
    return Ramp()
