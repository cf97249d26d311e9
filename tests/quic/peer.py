"""QUIC by aioquic: a server whose connection ids name it, and a client that moves. What they do and say is lines on
stdin and stdout."""

import asyncio
import datetime
import os
import ssl
import sys

import aioquic.quic.connection
from aioquic.asyncio import QuicConnectionProtocol, serve
from aioquic.quic.configuration import QuicConfiguration
from aioquic.quic.connection import QuicConnection
from aioquic.quic.events import StreamDataReceived
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

# Of a server's connection id: an octet, the server id, a nonce. No other random number has this length.
ID_BYTES = 9
ANSWER_BYTES = 50_000
PATIENCE = 10


def say(line):
    print(line, flush=True)


class RoutableIds:
    """In place of the module `os`, of which aioquic's connection takes its random numbers and nothing else."""

    def __init__(self, server_id):
        # Config rotation 0, and the length of what follows.
        self.begin = bytes([ID_BYTES - 1]) + server_id

    def urandom(self, length):
        if length != ID_BYTES:
            return os.urandom(length)
        return self.begin + os.urandom(length - len(self.begin))


def certificate():
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "lab")])
    now = datetime.datetime.now(datetime.timezone.utc)
    built = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
    )
    return built.sign(key, hashes.SHA256()), key


class Answering(QuicConnectionProtocol):
    """Says who it is, and how often it was asked in this connection."""

    name = ""
    asked = 0

    def quic_event_received(self, event):
        if isinstance(event, StreamDataReceived) and event.end_stream:
            self.asked += 1
            answer = f"{self.name} {self.asked}".encode().ljust(ANSWER_BYTES)
            self._quic.send_stream_data(event.stream_id, answer, end_stream=True)
            self.transmit()


class Asking(QuicConnectionProtocol):
    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.answer = None
        self.received = b""

    async def ask(self):
        self.answer = asyncio.get_running_loop().create_future()
        self.received = b""
        self._quic.send_stream_data(self._quic.get_next_available_stream_id(), b"who?", end_stream=True)
        self.transmit()
        return await asyncio.wait_for(self.answer, PATIENCE)

    def quic_event_received(self, event):
        if isinstance(event, StreamDataReceived):
            self.received += event.data
            if event.end_stream:
                self.answer.set_result(self.received)


async def server(address, port, server_id, name):
    aioquic.quic.connection.os = RoutableIds(bytes.fromhex(server_id))
    Answering.name = name
    configuration = QuicConfiguration(
        is_client=False, alpn_protocols=["lab"], connection_id_length=ID_BYTES
    )
    configuration.certificate, configuration.private_key = certificate()
    await serve(address, int(port), configuration=configuration, create_protocol=Answering)
    say("listening")
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)


async def client(address, port, vip, vip_port):
    loop = asyncio.get_running_loop()
    configuration = QuicConfiguration(
        is_client=True, alpn_protocols=["lab"], server_name="lab", verify_mode=ssl.CERT_NONE
    )
    asking = Asking(QuicConnection(configuration=configuration))

    async def bind(address, port):
        transport, _ = await loop.create_datagram_endpoint(lambda: asking, local_addr=(address, int(port)))
        return transport

    transport = await bind(address, port)
    asking.connect((vip, int(vip_port)))
    await asyncio.wait_for(asking.wait_connected(), PATIENCE)
    say("connected")
    while line := await loop.run_in_executor(None, sys.stdin.readline):
        match line.split():
            case ["ask"]:
                try:
                    answer = await asking.ask()
                    say(answer.decode().rstrip() if len(answer) == ANSWER_BYTES else f"{len(answer)} bytes")
                except asyncio.TimeoutError:
                    say("silence")
            # As a NAT that has forgotten the client: it goes on with the connection id that it has.
            case ["rebind", address, port]:
                transport.close()
                transport = await bind(address, port)
                say("rebound")
            # As a client that knows of its new address (RFC 9000 §9.5).
            case ["migrate", address, port]:
                transport.close()
                transport = await bind(address, port)
                asking._quic.change_connection_id()
                say("migrated")
    asking.close()
    await asyncio.wait_for(asking.wait_closed(), PATIENCE)
    transport.close()


if __name__ == "__main__":
    asyncio.run({"server": server, "client": client}[sys.argv[1]](*sys.argv[2:]))
