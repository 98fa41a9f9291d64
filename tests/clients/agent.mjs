// What an agent's script brings itself: a wallet, signed requests, an app, patience.
// The test passes what it knows as JSON in the environment variable AGENT.
import { randomUUID } from 'node:crypto'
import http from 'node:http'
import { privateKeyToAccount } from 'viem/accounts'

export const given = JSON.parse(process.env.AGENT)
export const account = privateKeyToAccount(given.key)

// The four headers of a signed request; none where the payment alone says who asks.
export async function signedHeaders() {
  if (given.alone) return {}
  const [timestamp, nonce] = [String(Date.now()), randomUUID()]
  const message = `${account.address}:${timestamp}:${nonce}`
  return {
    'X-Wallet-Address': account.address,
    'X-Signature': await account.signMessage({ message }),
    'X-Timestamp': timestamp,
    'X-Nonce': nonce,
  }
}

// The innermost fetch: every attempt is signed afresh.
export async function signedFetch(input, init) {
  const request = new Request(input, init)
  for (const [name, value] of Object.entries(await signedHeaders())) request.headers.set(name, value)
  return fetch(request)
}

export const deployUrl = given.gateway + (given.alone ? '/deploy' : '/agent/deploy')

// An app of one page, which shows its name.
export function deployBody(name = given.name) {
  const content = Buffer.from(`<h1>${name}</h1>`).toString('base64')
  const upload = { type: 'files', files: [{ path: 'index.html', content }] }
  return { uniqueName: name, displayName: name, upload }
}

// A deploy as `fetch` takes it.
export function deployRequest(headers = {}) {
  return [
    deployUrl,
    {
      method: 'POST',
      headers: { 'Content-Type': 'application/json', ...headers },
      body: JSON.stringify(deployBody()),
    },
  ]
}

// Follow a deploy until its app answers, and tell the test what came of it.
export async function follow(response) {
  console.log(JSON.stringify(await followed(response)))
}

// What came of a deploy: the answer, and the app's page.
export async function followed(response) {
  const answer = await response.json()
  const told = { status: response.status, body: answer, headers: Object.fromEntries(response.headers) }
  if (response.status === 200) {
    const { endpoint } = await untilReady(answer)
    told.page = await visit(endpoint)
  }
  return told
}

async function untilReady({ projectId, deploymentId, status_url, manage_token }) {
  const url = status_url ?? `${given.gateway}/agent/deploy/${projectId}/${deploymentId}/status`
  const headers = manage_token ? { Authorization: `Bearer ${manage_token}` } : {}
  for (;;) {
    const status = await (await signedFetch(url, { headers })).json()
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

// The same deploy, as the tool `deploy` takes it.
export const deployArguments = {
  name: given.name,
  chain: given.chain,
  files: [{ path: 'index.html', text: `<h1>${given.name}</h1>` }],
}

// Follow a deploy by tools until its app answers, and tell the test what came of it.
export async function tellTools(deployed, call) {
  const told = { meta: deployed._meta, body: deployed.structuredContent }
  if (!deployed.isError) {
    const { project_id: project, deployment_id: deployment, manage_token } = told.body
    for (;;) {
      const { structuredContent: status } = await call('wait_for_deployment', {
        project,
        deployment,
        manage_token,
      })
      if (status.status === 'ready') {
        told.page = await visit(status.endpoint)
        break
      }
      if (status.status !== 'deploying') throw new Error(JSON.stringify(status))
    }
  }
  console.log(JSON.stringify(told))
}
