// mppx: the Machine Payments Protocol, or x402 from a server that offers nothing else.
import { Mppx, evm } from 'mppx/client'
import { account, deployRequest, follow, given, signedFetch } from './agent.mjs'

const token = evm.assets.define({
  address: given.token,
  decimals: 6,
  network: `eip155:${given.chainId}`,
  transfer: { type: 'eip3009', name: 'USD Coin', version: '2' },
})

const mppx = Mppx.create({
  fetch: signedFetch,
  polyfill: false,
  methods: [evm({ account, currencies: [token], maxAmount: '1' })],
})

await follow(await mppx.fetch(...deployRequest({ 'X-Payment-Chain': given.chain })))
