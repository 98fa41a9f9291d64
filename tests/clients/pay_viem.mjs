// viem alone: read the demand from the 402's body, transfer the tokens, name the transaction.
import { createWalletClient, defineChain, erc20Abi, http, publicActions } from 'viem'
import { account, deployRequest, follow, given, signedFetch } from './agent.mjs'

const asked = await signedFetch(...deployRequest({ 'X-Payment-Chain': given.chain }))
const demand = await asked.json()
if (asked.status !== 402) throw new Error(`${asked.status} ${JSON.stringify(demand)}`)

const chain = defineChain({
  id: demand.chain_id,
  name: demand.payment_chain,
  nativeCurrency: { name: 'Ether', symbol: 'ETH', decimals: 18 },
  rpcUrls: { default: { http: [given.rpcUrl] } },
})
const wallet = createWalletClient({ account, chain, transport: http() }).extend(publicActions)
const hash = await wallet.writeContract({
  address: demand.token_address,
  abi: erc20Abi,
  functionName: 'transfer',
  args: [demand.pay_to, BigInt(demand.amount_token)],
})
await wallet.waitForTransactionReceipt({ hash })

const proof = {
  'X-Payment-Tx': hash,
  'X-Payment-Chain': demand.payment_chain,
  'X-Payment-Token': demand.token,
}
await follow(await signedFetch(...deployRequest(proof)))
