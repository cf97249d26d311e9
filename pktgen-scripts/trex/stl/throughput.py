"""UDP of one frame size over many connections: what trex/search.py runs at rate after rate (RFC 2544 section 26.1).

Tunables: size (bytes with FCS), clients, ports (connections = clients x ports), mpps, vip.
"""

import os
import sys

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import traffic


class Throughput:
    def get_streams(self, direction=0, tunables=(), **_):
        args = traffic.tunables().parse_args(list(tunables))
        # From the clients' side only; what comes back is for trex/astf.
        return [traffic.to_service(args, "udp", 53)] if direction == 0 else []


def register():
    return Throughput()
