"""Checks the TRex profiles with TRex' own client: each loads, its packets are well-formed and go to services that
config/benchmark.toml has, and tunables change what they say. Also the search, against a device with a known capacity.

    trex.py FOLDER_OF_THE_CLIENT   (the package's `interactive`)
"""

import os
import socket
import struct
import sys
import tomllib

here = os.path.dirname(os.path.abspath(__file__))
trex = os.path.join(here, "..", "trex")
sys.path[:0] = [sys.argv[1], trex]

import warnings

warnings.simplefilter("ignore")
import lbr_trex_client  # noqa: F401  sets the paths of what the client needs
from trex.astf.api import ASTFProfile
from trex.stl.api import STLProfile

with open(os.path.join(here, "..", "..", "config", "benchmark.toml"), "rb") as file:
    config = tomllib.load(file)
services = {(service["vip"], service["protocol"]) for service in config["service"]}
endpoint_ports = {
    (service["vip"].rsplit(":", 1)[1], endpoint["address"].rsplit(":", 1)[1])
    for service in config["service"]
    for endpoint in service["endpoint"]
}


def check(condition, text):
    if not condition:
        sys.exit(f"error: {text}")


def ones_sum(data):
    if len(data) % 2:
        data += b"\0"
    total = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return total


def sent_to(frame):
    """Service and protocol of a frame; its IP header must be sound, its TCP checksum right, its UDP checksum right or left out."""
    ip = frame[14:]
    check(frame[12:14] == b"\x08\0" and ip[0] == 0x45, "not plain IPv4")
    check(ones_sum(ip[:20]) == 0xFFFF, "IPv4 header checksum is wrong")
    length = struct.unpack("!H", ip[2:4])[0]
    check(length <= len(ip), "IP length beyond the frame")
    protocol = {6: "tcp", 17: "udp"}[ip[9]]
    segment = ip[20:length]
    checksum = segment[6:8] if protocol == "udp" else segment[16:18]
    if not (protocol == "udp" and checksum == b"\0\0"):
        pseudo = ip[12:20] + struct.pack("!BBH", 0, ip[9], len(segment))
        check(ones_sum(pseudo + segment) == 0xFFFF, f"{protocol} checksum is wrong")
    if protocol == "tcp":
        check(segment[13] == 0x02, "no SYN")
    return f"{socket.inet_ntoa(ip[16:20])}:{struct.unpack('!H', segment[2:4])[0]}", protocol


def streams(name, direction=0, **tunables):
    return STLProfile.load_py(os.path.join(trex, "stl", name + ".py"), direction=direction, **tunables).get_streams()


def instructions(stream):
    return {i["type"]: i for i in stream.to_json()["vm"]["instructions"]}


def packet(stream):
    return stream.to_json()["packet"]["binary"]


def bytes_of(stream):
    import base64

    return base64.b64decode(packet(stream))


for name in ("throughput", "imix", "syn_flood", "ramp"):
    made = streams(name)
    check(made, f"{name}: no streams")
    check(not streams(name, direction=1), f"{name}: sends from the servers' side, too")
    for stream in made:
        to = sent_to(bytes_of(stream))
        check(to in services, f"{name}: {to} is no service of config/benchmark.toml")
        kinds = instructions(stream)
        check("fix_checksum_hw" in kinds, f"{name}: checksums are not mended after the ports change")
        check("tuple_flow_var" in kinds or "flow_var" in kinds, f"{name}: all packets are of one connection")
    print(f"stl/{name}: {len(made)} streams")

sizes = [len(bytes_of(stream)) + 4 for stream in streams("imix")]
check(sizes == [64, 594, 1518], f"imix: sizes {sizes}")
rates = [stream.to_json()["mode"]["rate"]["value"] for stream in streams("imix", mpps=1.2)]
check([round(rate) for rate in rates] == [700_000, 400_000, 100_000], f"imix: rates {rates}")
for size in (64, 1518):
    check(len(bytes_of(streams("throughput", size=size)[0])) == size - 4, "throughput: size")
flood = [i for i in streams("syn_flood")[0].to_json()["vm"]["instructions"] if i["type"] == "flow_var"]
check(len(flood) == 2 and all(i["op"] == "random" for i in flood), "syn_flood: sources are not random")
ramp = instructions(streams("ramp", clients=200, ports=50000)[0])["tuple_flow_var"]
check((ramp["ip_max"] - ramp["ip_min"] + 1) * (ramp["port_max"] - ramp["port_min"] + 1) == 10_000_000, "ramp: connections")


def profile(name, **tunables):
    return ASTFProfile.load_py(os.path.join(trex, "astf", name + ".py"), **tunables).to_json()


for name in ("http", "ramp", "churn"):
    made = profile(name)
    ports = set()
    for template in made["templates"]:
        client = template["client_template"]
        port = client["port"]
        ports.add(port)
        check((f"203.0.113.100:{port}", "tcp") in services, f"{name}: no service on port {port}")
        check((str(port), str(port)) in endpoint_ports, f"{name}: the endpoints of port {port} have another one")
        rules = [rule["port"] for rule in template["server_template"]["assoc"]]
        check(rules == [port], f"{name}: the servers listen on {rules}")
        program = made["program_list"][client["program_index"]]["commands"]
        names = [command["name"] for command in program]
        check(names.count("tx") == names.count("rx") > 0, f"{name}: requests and answers differ in number")
    check(len(ports) == len(made["templates"]), f"{name}: two programs on one port")
    print(f"astf/{name}: {len(made['templates'])} templates")
check(profile("http", cps=5.0)["templates"][0]["client_template"]["cps"] == 5.0, "http: cps")
limits = [t["client_template"].get("limit") for t in profile("churn", flows=7)["templates"]]
check(limits == [7, None], f"churn: limits {limits}")
check(profile("ramp", flows=9)["templates"][0]["client_template"]["cont"], "ramp: connections that end are not opened anew")

from search import bisect

for capacity in (100.0, 61.8, 3.0):
    rate, _ = bisect(lambda r: (1000 * r, min(r, capacity) * 1000), 0.0, 0.0, 100.0, 0.5)
    check(capacity - 0.5 <= rate <= capacity, f"search: {rate} where {capacity} is the limit")
check(bisect(lambda r: (1000 * r, 0), 0.0, 0.0, 100.0, 0.5) is None, "search: a rate where nothing gets through")
check(bisect(lambda r: (0, 0), 0.0, 0.0, 100.0, 0.5) is None, "search: a rate where nothing was sent")
rate, _ = bisect(lambda r: (1000 * r, 996 * r), 0.005, 0.0, 100.0, 0.5)
check(rate == 100.0, "search: the allowed loss is not allowed")
print("search")
