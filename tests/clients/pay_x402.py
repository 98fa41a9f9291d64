"""x402 for Python: version 2, scheme exact, on the one network that the test names."""

import asyncio

from agent import ACCOUNT, GIVEN, SigningTransport, deploy
from x402 import x402Client
from x402.http.clients import x402_httpx_transport
from x402.mechanisms.evm.exact import register_exact_evm_client

client = register_exact_evm_client(x402Client(), ACCOUNT, networks=f"eip155:{GIVEN['chainId']}")
asyncio.run(deploy(x402_httpx_transport(client, SigningTransport())))
