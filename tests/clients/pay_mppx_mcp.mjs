// mppx around a client of the Model Context Protocol: it pays a tool's call by `_meta`.
import { Client } from '@modelcontextprotocol/sdk/client/index.js'
import { StreamableHTTPClientTransport } from '@modelcontextprotocol/sdk/client/streamableHttp.js'
import { evm } from 'mppx/client'
import { McpClient } from 'mppx/mcp/client'
import { account, deployArguments, given, signedFetch, tellTools } from './agent.mjs'

const token = evm.assets.define({
  address: given.token,
  decimals: 6,
  network: `eip155:${given.chainId}`,
  transfer: { type: 'eip3009', name: 'USD Coin', version: '2' },
})

const client = new Client({ name: 'agent', version: '1' })
const options = given.signs ? { fetch: signedFetch } : {}
const url = new URL(`${given.gateway}/mcp`)
await client.connect(new StreamableHTTPClientTransport(url, options))
McpClient.wrap(client, { methods: [evm({ account, currencies: [token], maxAmount: '1' })] })

const deployed = await client.callTool({ name: 'deploy', arguments: deployArguments })
await tellTools(deployed, (name, args) => client.callTool({ name, arguments: args }))
await client.close()
