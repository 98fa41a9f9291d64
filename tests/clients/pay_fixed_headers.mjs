// Clients of x402 as people call them: headers signed once, then one call, which pays by itself.
// Each repeats the request that got the 402 with the very same headers, and adds its payment.
import { wrap } from '@faremeter/fetch'
import { createPaymentHandler } from '@faremeter/payment-evm/exact'
import { createLocalWallet } from '@faremeter/wallet-evm'
import { wrapAxiosWithPaymentFromConfig } from '@x402/axios'
import { ExactEvmScheme } from '@x402/evm'
import { ExactEvmSchemeV1 } from '@x402/evm/exact/v1/client'
import { wrapFetchWithPaymentFromConfig } from '@x402/fetch'
import axios from 'axios'
import { account, deployBody, deployUrl, followed, given, signedHeaders } from './agent.mjs'

const network = `eip155:${given.chainId}`
const config = { schemes: [{ network, client: new ExactEvmScheme(account) }] }
const json = { 'Content-Type': 'application/json' }

async function byFetch(paying, name) {
  const headers = { ...json, ...(await signedHeaders()) }
  return paying(deployUrl, { method: 'POST', headers, body: JSON.stringify(deployBody(name)) })
}

// A client of x402's first version knows no PAYMENT-REQUIRED: it reads the body of the 402.
async function readsTheBody(input, init) {
  const response = await fetch(input, init)
  const headers = new Headers(response.headers)
  headers.delete('PAYMENT-REQUIRED')
  return new Response(response.body, { status: response.status, headers })
}

const clients = {
  fetch: (name) => byFetch(wrapFetchWithPaymentFromConfig(fetch, config), name),

  v1(name) {
    const scheme = { x402Version: 1, network: given.chain, client: new ExactEvmSchemeV1(account) }
    return byFetch(wrapFetchWithPaymentFromConfig(readsTheBody, { schemes: [scheme] }), name)
  },

  async axios(name) {
    const paying = wrapAxiosWithPaymentFromConfig(axios.create(), config)
    const headers = await signedHeaders()
    const answer = await paying.post(deployUrl, deployBody(name), { headers })
    return new Response(JSON.stringify(answer.data), { status: answer.status, headers: { ...answer.headers } })
  },

  async faremeter(name) {
    const wallet = await createLocalWallet({ id: given.chainId, name: given.chain }, given.key)
    return byFetch(wrap(fetch, { handlers: [createPaymentHandler(wallet)] }), name)
  },

  // AgentKit: the first action shows the model a 402; the second, approved, asks again and pays.
  async agentkit(name) {
    const shown = await byFetch(fetch, name)
    if (shown.status !== 402) throw new Error(`${shown.status} ${await shown.text()}`)
    return byFetch(wrapFetchWithPaymentFromConfig(fetch, config), name)
  },
}

const told = {}
for (const [client, deploy] of Object.entries(clients)) {
  const name = `${given.name}-${client}`
  told[client] = await followed(await deploy(name))
}
console.log(JSON.stringify(told))
