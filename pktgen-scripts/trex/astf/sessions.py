"""What the stateful profiles share: clients, servers behind Pollux, and a TCP session of requests."""

import argparse

from trex.astf.api import (
    ASTFAssociation, ASTFAssociationRule, ASTFIPGen, ASTFIPGenDist, ASTFIPGenGlobal, ASTFProfile, ASTFProgram,
    ASTFTCPClientTemplate, ASTFTCPServerTemplate, ASTFTemplate,
)

REQUEST = b"GET / HTTP/1.1\r\nHost: vip\r\nUser-Agent: trex\r\n\r\n"
RESPONSE_HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: %d\r\n\r\n"


def tunables(**defaults):
    """Parser of a profile's tunables: those of every profile, and its own with their defaults."""
    parser = argparse.ArgumentParser(formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    common = {"vip": "203.0.113.100", "port": 80, "first_client": "16.0.0.1", "last_client": "16.0.255.254"}
    for name, default in {**common, **defaults}.items():
        parser.add_argument("--" + name, type=type(default), default=default)
    return parser


def addresses(args):
    """Clients talk to the VIP. The servers answer whatever address Pollux sends them to, so they need none of their own."""
    return ASTFIPGen(
        glob=ASTFIPGenGlobal(ip_offset="1.0.0.0", ip_offset_server="0.0.0.0"),
        dist_client=ASTFIPGenDist(ip_range=[args.first_client, args.last_client], distribution="seq"),
        dist_server=ASTFIPGenDist(ip_range=[args.vip, args.vip], distribution="seq"),
    )


def session(args, requests, size, pause_usec=0):
    """A client's and a server's program: `requests` times a request and `size` bytes of answer, with a pause between."""
    response = RESPONSE_HEAD % size + b"x" * size
    client, server = ASTFProgram(), ASTFProgram()
    for index in range(requests):
        client.send(REQUEST)
        client.recv(len(response) * (index + 1))
        if pause_usec and index + 1 < requests:
            client.delay(pause_usec)
        server.recv(len(REQUEST) * (index + 1))
        server.send(response)
    return client, server


def template(args, programs, cps, limit=None, keep=False):
    """`cps` connections a second; at most `limit` at once, which are kept up where `keep` is set."""
    client, server = programs
    more = {} if limit is None else {"limit": limit, "cont": keep}
    return ASTFTemplate(
        client_template=ASTFTCPClientTemplate(program=client, ip_gen=addresses(args), cps=cps, port=args.port, **more),
        server_template=ASTFTCPServerTemplate(program=server, assoc=ASTFAssociation(rules=ASTFAssociationRule(port=args.port))),
    )


def profile(args, templates):
    return ASTFProfile(default_ip_gen=addresses(args), templates=templates)
