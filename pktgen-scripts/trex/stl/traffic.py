"""What the stateless profiles share: addresses, tunables, and one stream of many connections to a service.

Pollux' configuration that goes with them is config/benchmark.toml; README.md draws the topology.
"""

import argparse

from trex.stl.api import (
    Ether, IP, TCP, UDP,
    STLPktBuilder, STLScVmRaw, STLStream, STLTXCont,
    STLVmFixChecksumHw, STLVmFlowVar, STLVmTupleGen, STLVmWrFlowVar, CTRexVmInsFixHwCs,
)

VIP = "203.0.113.100"
FCS = 4


def tunables(**defaults):
    """Parser of a profile's tunables: those of every profile, and its own with their defaults."""
    parser = argparse.ArgumentParser(formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    common = {"size": 64, "clients": 254, "ports": 60000, "vip": VIP, "mpps": 1.0}
    for name, default in {**common, **defaults}.items():
        parser.add_argument("--" + name, type=type(default), default=default)
    return parser


def to_service(args, l4, dport, size=None, pps=None, isg=0.0, first="16.0.0.1", random=False, flags="S", port_range=None):
    """A continuous stream of packets from `args.clients` x `args.ports` tuples to the service, `size` bytes with FCS."""
    size = size or args.size
    lower, upper = port_range or (1024, 1024 + args.ports - 1)
    header = UDP(sport=lower, dport=dport, chksum=0) if l4 == "udp" else TCP(sport=lower, dport=dport, flags=flags)
    packet = Ether() / IP(src=first, dst=args.vip) / header
    packet = packet / (b"\0" * max(0, size - FCS - len(packet)))
    start = _number(first)
    last = _dotted(start + args.clients - 1)
    if random:
        var = [
            STLVmFlowVar("client", min_value=first, max_value=last, size=4, op="random"),
            STLVmWrFlowVar("client", pkt_offset="IP.src"),
            STLVmFlowVar("port", min_value=lower, max_value=upper, size=2, op="random"),
            STLVmWrFlowVar("port", pkt_offset=l4.upper() + ".sport"),
        ]
    else:
        var = [
            STLVmTupleGen(name="tuple", ip_min=first, ip_max=last, port_min=lower, port_max=upper),
            STLVmWrFlowVar("tuple.ip", pkt_offset="IP.src"),
            STLVmWrFlowVar("tuple.port", pkt_offset=l4.upper() + ".sport"),
        ]
    l4_type = CTRexVmInsFixHwCs.L4_TYPE_UDP if l4 == "udp" else CTRexVmInsFixHwCs.L4_TYPE_TCP
    var.append(STLVmFixChecksumHw(l3_offset="IP", l4_offset=l4.upper(), l4_type=l4_type))
    return STLStream(
        packet=STLPktBuilder(pkt=packet, vm=STLScVmRaw(var)),
        mode=STLTXCont(pps=pps if pps is not None else args.mpps * 1e6),
        isg=isg,
    )


def _number(address):
    a, b, c, d = (int(part) for part in address.split("."))
    return ((a * 256 + b) * 256 + c) * 256 + d


def _dotted(number):
    return ".".join(str(number >> shift & 255) for shift in (24, 16, 8, 0))
