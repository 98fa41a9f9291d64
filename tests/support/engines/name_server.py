"""A name server on loopback, over UDP and TCP, that answers as a test says."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import cast

import dns.flags
import dns.message
import dns.name
import dns.rcode
import dns.rdatatype
import dns.rrset

from support.gateway.ports import quiet_port


class NameServer:
    """Serves `texts` and `aliases` by lower-case name without the last dot; else NXDOMAIN.

    For a name in `failures` it answers with that code, in `silent` not at all, in `cut_short` over
    TCP alone.
    """

    def __init__(self) -> None:
        self.texts: dict[str, list[str]] = {}
        self.aliases: dict[str, str] = {}
        self.failures: dict[str, dns.rcode.Rcode] = {}
        self.silent: set[str] = set()
        self.cut_short: set[str] = set()
        self.asked: list[str] = []
        self.address = ""

    def answer(self, wire: bytes, *, over_tcp: bool) -> bytes | None:
        query = dns.message.from_wire(wire)
        (question,) = query.question
        name = question.name.to_text(omit_final_dot=True).lower()
        self.asked.append(name)
        if name in self.silent:
            return None
        response = dns.message.make_response(query, recursion_available=True)
        if name in self.cut_short and not over_tcp:
            response.flags |= dns.flags.TC
        elif name in self.failures:
            response.set_rcode(self.failures[name])
        else:
            self._fill(response, name, question.rdtype)
        return response.to_wire()

    def _fill(
        self, response: dns.message.Message, name: str, kind: dns.rdatatype.RdataType
    ) -> None:
        while name in self.aliases:
            target = self.aliases[name]
            response.answer.append(dns.rrset.from_text(f"{name}.", 1, "IN", "CNAME", f"{target}."))
            if len(response.answer) > 100:
                return
            name = target
        known = self.texts.get(name)
        if known is None:
            response.set_rcode(dns.rcode.NXDOMAIN)
        elif kind == dns.rdatatype.TXT and known:
            quoted = [" ".join(f'"{part}"' for part in _pieces(text)) for text in known]
            response.answer.append(dns.rrset.from_text(f"{name}.", 1, "IN", "TXT", *quoted))


def _pieces(text: str) -> list[str]:
    """A text as the strings of at most 255 bytes that a record consists of."""
    return [text[start : start + 255] for start in range(0, len(text), 255)]


class _Datagrams(asyncio.DatagramProtocol):
    def __init__(self, server: NameServer) -> None:
        self._server = server

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.DatagramTransport", transport)

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        answer = self._server.answer(data, over_tcp=False)
        if answer is not None:
            self._transport.sendto(answer, addr)


@asynccontextmanager
async def name_server() -> AsyncIterator[NameServer]:
    """A server at `address`, which is `127.0.0.1:port`."""
    server = NameServer()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        length = int.from_bytes(await reader.readexactly(2), "big")
        answer = server.answer(await reader.readexactly(length), over_tcp=True)
        if answer is not None:
            writer.write(len(answer).to_bytes(2, "big") + answer)
            await writer.drain()
        writer.close()

    port = quiet_port()  # for both: of the kernel's own, another may have the one for UDP
    streams = await asyncio.start_server(serve, "127.0.0.1", port)
    loop = asyncio.get_running_loop()
    transport, _ = await loop.create_datagram_endpoint(
        lambda: _Datagrams(server), local_addr=("127.0.0.1", port)
    )
    server.address = f"127.0.0.1:{port}"
    try:
        yield server
    finally:
        transport.close()
        streams.close()
        await streams.wait_closed()
