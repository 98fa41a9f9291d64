// mppx: the Machine Payments Protocol, or x402 from a server that offers nothing else. Plain, it
// takes a token of its own table (which lacks arbitrum), names no chain, and reads the first offer.
import { Mppx, evm } from 'mppx/client'
import { account, deployRequest, follow, given, signedFetch } from './agent.mjs'

const defined = evm.assets.define({
  address: given.token,
  decimals: 6,
  network: `eip155:${given.chainId}`,
  transfer: { type: 'eip3009', name: 'USD Coin', version: '2' },
})

const token = given.plain ? evm.assets.base.USDC : defined
const headers = given.plain ? {} : { 'X-Payment-Chain': given.chain }
const mppx = Mppx.create({
  fetch: signedFetch,
  polyfill: false,
  methods: [evm({ account, currencies: [token], maxAmount: '1' })],
})

await follow(await mppx.fetch(...deployRequest(headers)))
