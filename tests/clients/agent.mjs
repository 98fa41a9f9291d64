// What an agent's script brings itself: a wallet, signed requests, an app, patience.
// The test passes what it knows as JSON in the environment variable AGENT.
import { randomUUID } from 'node:crypto'
import http from 'node:http'
import { privateKeyToAccount } from 'viem/accounts'

export const given = JSON.parse(process.env.AGENT)
export const account = privateKeyToAccount(given.key)

// The innermost fetch: every attempt is signed afresh, as a nonce passes only once.
export async function signedFetch(input, init) {
  const request = new Request(input, init)
  const [timestamp, nonce] = [String(Date.now()), randomUUID()]
  const message = `${account.address}:${timestamp}:${nonce}`
  request.headers.set('X-Wallet-Address', account.address)
  request.headers.set('X-Signature', await account.signMessage({ message }))
  request.headers.set('X-Timestamp', timestamp)
  request.headers.set('X-Nonce', nonce)
  return fetch(request)
}

const page = Buffer.from(`<h1>${given.name}</h1>`).toString('base64')
const body = {
  uniqueName: given.name,
  displayName: given.name,
  upload: { type: 'files', files: [{ path: 'index.html', content: page }] },
}

// A deploy as `fetch` takes it.
export function deployRequest(headers = {}) {
  return [
    `${given.gateway}/agent/deploy`,
    {
      method: 'POST',
      headers: { 'Content-Type': 'application/json', ...headers },
      body: JSON.stringify(body),
    },
  ]
}

// Follow a deploy until its app answers, and tell the test what came of it.
export async function follow(response) {
  const answer = await response.json()
  const told = { status: response.status, body: answer, headers: Object.fromEntries(response.headers) }
  if (response.status === 200) {
    const { endpoint } = await untilReady(answer)
    told.page = await visit(endpoint)
  }
  console.log(JSON.stringify(told))
}

async function untilReady({ projectId, deploymentId }) {
  const url = `${given.gateway}/agent/deploy/${projectId}/${deploymentId}/status`
  for (;;) {
    const status = await (await signedFetch(url)).json()
    if (status.status === 'ready') return status
    if (status.status !== 'deploying') throw new Error(JSON.stringify(status))
    await new Promise((resolve) => setTimeout(resolve, 50))
  }
}

// The app's page, through the proxy; no resolver here knows the name of a local app.
function visit(endpoint) {
  const { host, port } = new URL(endpoint)
  return new Promise((resolve, reject) => {
    const request = http.get({ host: '127.0.0.1', port, headers: { host } }, (response) => {
      const chunks = []
      response.on('data', (chunk) => chunks.push(chunk))
      response.on('end', () => resolve(Buffer.concat(chunks).toString()))
    })
    request.on('error', reject)
  })
}
