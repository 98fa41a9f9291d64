// viem's own text of EIP-4361, sent as x402's extension sign-in-with-x sends it.
import { createSiweMessage, generateSiweNonce } from 'viem/siwe'
import { account, given } from './agent.mjs'

const { host, origin } = new URL(given.gateway)

async function signIn() {
  const issuedAt = new Date()
  const told = { domain: host, address: account.address, uri: origin, version: '1', nonce: generateSiweNonce() }
  const message = createSiweMessage({ ...told, chainId: given.chainId, issuedAt, statement: 'Show my apps.' })
  const signature = await account.signMessage({ message })
  const chainId = `eip155:${given.chainId}`
  const header = { ...told, chainId, type: 'eip191', issuedAt: issuedAt.toISOString(), statement: 'Show my apps.', signature }
  return Buffer.from(JSON.stringify(header)).toString('base64')
}

const headers = { 'SIGN-IN-WITH-X': await signIn() }
const [first, second] = [await fetch(`${origin}/agent/projects`, { headers }), await fetch(`${origin}/agent/projects`, { headers })]
console.log(JSON.stringify({ status: first.status, body: await first.json(), again: (await second.json()).code }))
