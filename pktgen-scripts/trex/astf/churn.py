"""Long-lived connections with churn: `flows` that stay and work, and `cps` short ones a second beside them.

Tunables: flows, pause (seconds between the requests of a long one), requests, cps, size, vip, port, first_client, last_client.
"""

import os
import sys

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import sessions


class Churn:
    def get_profile(self, tunables=(), **_):
        args = sessions.tunables(
            flows=100_000, pause=10, requests=100, cps=10_000.0, size=128, churn_port=8080
        ).parse_args(list(tunables))
        long = sessions.session(args, args.requests, args.size, pause_usec=args.pause * 1_000_000)
        short = sessions.session(args, 1, args.size)
        templates = [sessions.template(args, long, max(args.flows / 60, 0.5), limit=args.flows, keep=True)]
        # A port of its own: an association is of one program.
        args.port = args.churn_port
        templates.append(sessions.template(args, short, args.cps))
        return sessions.profile(args, templates)


def register():
    return Churn()
