"""Apps of all manners, and one with a path for each manner, deployed."""

import asyncio

import pytest

from support.clients.wallet import HELLO, Wallet, fresh_name
from support.gateway.gateway_fixture import DevGateway

BOUND_SECONDS = 120  # far beyond what anything here takes

BUSY = r"""
const http = require('http'), crypto = require('crypto');
let held = [];
http.createServer(async (q, s) => {
  const path = q.url.split('?')[0];
  if (path === '/headers') return s.end(JSON.stringify({ method: q.method, headers: q.headers }));
  if (path === '/held') return held.push(s);
  if (path === '/events') {
    s.writeHead(200, { 'Content-Type': 'text/event-stream' });
    s.write('data: one\n\n');
    return held.push({ end: () => s.end('data: two\n\n') });
  }
  if (path === '/release') { held.splice(0).forEach((h) => h.end('released')); return s.end(); }
  if (path === '/cut') {
    s.writeHead(200, { 'Content-Length': 100 });
    return s.write('half', () => s.destroy());
  }
  if (path === '/big') return s.end(Buffer.alloc(20e6));
  if (path === '/nothing') return s.destroy();
  if (path === '/large-head') { s.setHeader('X-Large', 'a'.repeat(7000)); return s.end('large'); }
  if (path === '/upload') {
    const hash = crypto.createHash('sha256');
    let size = 0;
    for await (const piece of q) { size += piece.length; hash.update(piece); }
    return s.end(`${size} ${hash.digest('hex')}`);
  }
  if (path === '/teapot') { s.statusCode = 418; return s.end('teapot'); }
  if (path === '/broken') { s.statusCode = 500; return s.end('my own error'); }
  s.end('busy');
}).on('upgrade', (q, socket) => {
  const key = q.headers['sec-websocket-key'] + '258EAFA5-E914-47DA-95CA-C5AB0DC85B11';
  const accept = crypto.createHash('sha1').update(key).digest('base64');
  socket.write('HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n' +
    `Connection: Upgrade\r\nSec-WebSocket-Accept: ${accept}\r\n\r\n`);
  let come = Buffer.alloc(0);  // short text frames, in whatever pieces: unmasked, in upper case
  socket.on('data', (piece) => {
    come = Buffer.concat([come, piece]);
    while (come.length >= 6 && come.length >= 6 + (come[1] & 127)) {
      const frame = come.subarray(0, 6 + (come[1] & 127));
      come = come.subarray(frame.length);
      if ((frame[0] & 15) !== 1) return socket.end();
      const text = frame.subarray(6).map((byte, at) => byte ^ frame[2 + (at & 3)]).toString();
      const head = Buffer.from([129, text.length]);
      socket.write(Buffer.concat([head, Buffer.from(text.toUpperCase())]));
    }
  });
}).listen(process.env.PORT);
"""


def node_app(handler: str, *, listen: str = "process.env.PORT") -> dict[str, str]:
    return {"index.js": f"require('http').createServer((q, s) => {{{handler}}}).listen({listen})"}


READY = {
    "answers": node_app("s.end('hello')"),
    "redirects": node_app("s.writeHead(302, {Location: '/login'}); s.end()"),
    "asks for a password": node_app("s.statusCode = 401; s.end()"),
    "has no start page": node_app("s.statusCode = 404; s.end()"),
    "listens late": {"index.js": f"setTimeout(() => {{{node_app('s.end()')['index.js']}}}, 1500)"},
    "fails at first": node_app(
        "s.statusCode = (global.n = (global.n || 0) + 1) > 2 ? 200 : 503; s.end()"
    ),
    "binds ::": node_app("s.end()", listen="{port: process.env.PORT, host: '::'}"),
    "binds ::1": node_app("s.end()", listen="{port: process.env.PORT, host: '::1'}"),
    "binds 127.0.0.1": node_app("s.end()", listen="{port: process.env.PORT, host: '127.0.0.1'}"),
    "binds another port": node_app("s.end()", listen="4567"),
    "binds another port at ::1": node_app("s.end()", listen="{port: 4568, host: '::1'}"),
    "python": {
        "requirements.txt": "",
        "main.py": "import http.server, os\n"
        "handler = http.server.SimpleHTTPRequestHandler\n"
        "http.server.ThreadingHTTPServer(('', int(os.environ['PORT'])), handler).serve_forever()\n",
    },
    "static": {"index.html": "<h1>hello</h1>"},
    "static below a folder": {"site/index.html": "<h1>hello</h1>"},
    "builds": {
        "package.json": '{"scripts": {"build": "cp template.js made.js", "start": "node made.js"}}',
        "template.js": HELLO["index.js"],
    },
}


@pytest.fixture
async def wallet(gateway: DevGateway) -> Wallet:
    return await Wallet(gateway).fund()


@pytest.fixture(scope="module")
def busy_name(gateway: DevGateway) -> str:
    """A deployed app with a path for each manner."""
    name = fresh_name()
    asyncio.run(deploy_busy(gateway, name))
    return name


async def deploy_busy(gateway: DevGateway, name: str) -> None:
    wallet = await Wallet(gateway).fund()
    status = await wallet.settled(await wallet.deploy_paid(name, {"index.js": BUSY}))
    assert status["status"] == "ready", status
