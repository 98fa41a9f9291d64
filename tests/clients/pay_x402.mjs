// @x402/fetch with @x402/evm: x402 v2, scheme exact, on the one network that the test names.
import { ExactEvmScheme } from '@x402/evm'
import { wrapFetchWithPaymentFromConfig } from '@x402/fetch'
import { account, deployRequest, follow, given, signedFetch } from './agent.mjs'

const fetchWithPayment = wrapFetchWithPaymentFromConfig(signedFetch, {
  schemes: [{ network: `eip155:${given.chainId}`, client: new ExactEvmScheme(account) }],
})

await follow(await fetchWithPayment(...deployRequest()))
