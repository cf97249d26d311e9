"""The simple IMIX: frames of 64, 594 and 1518 bytes as 7 : 4 : 1 (named as in RFC 6985), UDP, each size from clients of its own.

Tunables: mpps (of all sizes together), clients, ports, vip.
"""

import os
import sys

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import traffic

MIX = [(64, 7), (594, 4), (1518, 1)]


class Imix:
    def get_streams(self, direction=0, tunables=(), **_):
        args = traffic.tunables().parse_args(list(tunables))
        if direction != 0:
            return []
        parts = sum(share for _, share in MIX)
        return [
            traffic.to_service(
                args, "udp", 53, size=size, pps=args.mpps * 1e6 * share / parts, isg=index * 0.1, first=f"16.{index}.0.1"
            )
            for index, (size, share) in enumerate(MIX)
        ]


def register():
    return Imix()
