// viem's own text of EIP-4361, sent as x402's extension sign-in-with-x sends it.
import { createSiweMessage, generateSiweNonce } from 'viem/siwe'
import { account, given } from './agent.mjs'

const { host, origin } = new URL(given.gateway)

async function signIn({ chainId, type, ...info }) {
  const told = { ...info, address: account.address }
  const text = { ...told, chainId: Number(chainId.slice(7)), issuedAt: new Date(info.issuedAt) }
  const signature = await account.signMessage({ message: createSiweMessage(text) })
  return Buffer.from(JSON.stringify({ ...told, chainId, type, signature })).toString('base64')
}

// Its own text.
const own = { domain: host, uri: origin, version: '1', nonce: generateSiweNonce(), statement: 'Show my apps.' }
const onChain = { chainId: `eip155:${given.chainId}`, type: 'eip191' }

const headers = { 'SIGN-IN-WITH-X': await signIn({ ...own, ...onChain, issuedAt: new Date().toISOString() }) }
const [first, second] = [await fetch(`${origin}/agent/projects`, { headers }), await fetch(`${origin}/agent/projects`, { headers })]

// The one that a 402 offers to whom nothing names yet: the next one asks that wallet.
const asking = (headers = {}) => fetch(`${origin}/credits`, { method: 'POST', headers })
const required = JSON.parse(Buffer.from((await asking()).headers.get('PAYMENT-REQUIRED'), 'base64'))
const offer = required.extensions['sign-in-with-x']
const asked = await asking({ 'SIGN-IN-WITH-X': await signIn({ ...offer.info, ...offer.supportedChains[0] }) })
const offered = [asked.status, (await asked.json()).pay_from]

console.log(JSON.stringify({ offered, status: first.status, body: await first.json(), again: (await second.json()).code }))
