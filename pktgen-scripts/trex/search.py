#!/usr/bin/env python3
"""Throughput search with TRex, stateless (RFC 2544 section 26.1): the highest rate at which no more is lost than allowed.

    ./search.py --server 10.0.0.5 --sizes 64 128 512 1518 --loss 0

Wants TRex' Python client on sys.path (`automation/trex_control_plane/interactive` of its package, or PyPI's lbr-trex-client).
On machines that are not Pollux' alone, bisection at zero loss measures the neighbours: use --loss 0.005, and MLRsearch for figures to publish.
"""

import argparse
import json
import os
import sys


def bisect(trial, allowed, low, high, step):
    """The highest rate between `low` and `high` whose trial loses at most `allowed`, to within `step`; None where there is none.

    `trial(rate)` gives (sent, received)."""
    best = None
    rate = high
    while True:
        sent, received = trial(rate)
        loss = max(0.0, (sent - received) / sent) if sent else 1.0
        if loss <= allowed:
            best, low = (rate, received), rate
            if rate == high:
                break
        else:
            high = rate
        if high - low <= step:
            break
        rate = (low + high) / 2
    return best


def measure(client, profile, size, args):
    """One frame size."""
    from trex.stl.api import STLProfile

    tx, rx = args.ports
    tunables = {"size": size, "clients": args.clients, "ports": args.per_client, "vip": args.vip}
    client.reset(ports=[tx, rx])
    streams = STLProfile.load_py(profile, direction=0, port_id=tx, **tunables).get_streams()
    client.add_streams(streams, ports=[tx])

    def trial(percent, seconds=None):
        client.clear_stats()
        client.start(ports=[tx], mult=f"{percent}%", duration=seconds or args.seconds)
        client.wait_on_traffic(ports=[tx])
        stats = client.get_stats()
        return stats[tx]["opackets"], stats[rx]["ipackets"]

    trial(5, 2)  # opens the connections, resolves neighbours: not counted
    best = bisect(trial, args.loss, 0.0, 100.0, args.step)
    rate, received = best or (0.0, 0)
    return {"size": size, "percent": rate, "mpps": received / args.seconds / 1e6}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--server", default="127.0.0.1", help="where t-rex-64 -i runs")
    parser.add_argument("--ports", type=int, nargs=2, default=[0, 1], help="towards Pollux' client and server side")
    parser.add_argument("--sizes", type=int, nargs="+", default=[64, 128, 256, 512, 1024, 1280, 1518])
    parser.add_argument("--loss", type=float, default=0.0, help="share that may be lost")
    parser.add_argument("--seconds", type=float, default=10)
    parser.add_argument("--step", type=float, default=0.5, help="percent of the link at which the search ends")
    parser.add_argument("--clients", type=int, default=254)
    parser.add_argument("--per-client", type=int, default=60000, help="connections of each client")
    parser.add_argument("--vip", default="203.0.113.100")
    args = parser.parse_args()

    from trex.stl.api import STLClient

    profile = os.path.join(os.path.dirname(os.path.abspath(__file__)), "stl", "throughput.py")
    client = STLClient(server=args.server)
    client.connect()
    try:
        for size in args.sizes:
            print(json.dumps(measure(client, profile, size, args)), flush=True)
    finally:
        client.disconnect()
    return 0


if __name__ == "__main__":
    sys.exit(main())
