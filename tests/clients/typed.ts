// What a client generated for TypeScript knows of ours; `tsc --strict` is the test.
import type { components, paths } from './generated'

type Json<Answer> = Answer extends { content: { 'application/json': infer Body } } ? Body : never
type Deploy = paths['/agent/deploy']['post']['responses']

export const least: components['schemas']['DeployBody'] = {
  uniqueName: 'hello-agent',
  displayName: 'Hello',
  upload: { type: 'files', files: [{ path: 'index.html', content: 'PGgxPkhlbGxvPC9oMT4=' }] },
  settings: {},
}

export function asked(demand: components['schemas']['PaymentDemand']): [string, number, string] {
  // @ts-expect-error: atomic units are text
  const units: number = demand.amount_token
  return [demand.amount_token, demand.amount_usd, demand.error]
}

export function refused(
  required: Json<Deploy[402]>,
  used: Json<Deploy[409]>,
  other: Json<Deploy['default']>,
): (string | undefined)[] {
  // @ts-expect-error: a code is text
  const code: number = other.code
  if ('amount_token' in required) asked(required)
  return [required.code, used.projectId, used.code, other.code]
}
