// What both peers check besides the signature: headers, time, nonce, rate. All of it in memory.

const WINDOW_MS = 60_000;
const UUID = /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/i;

export class Refused extends Error {
  constructor(status, code) {
    super(code);
    this.status = status;
  }
}

export function signedHeaders(headers) {
  const wallet = headers["x-wallet-address"];
  const signature = headers["x-signature"];
  const timestamp = headers["x-timestamp"];
  const nonce = headers["x-nonce"];
  if (!wallet || !signature || !timestamp || !nonce) throw new Refused(401, "auth_missing");
  if (!/^\d{1,15}$/.test(timestamp) || Math.abs(Date.now() - Number(timestamp)) > WINDOW_MS)
    throw new Refused(401, "timestamp_expired");
  if (!UUID.test(nonce) || !/^0x[0-9a-f]{130}$/i.test(signature)) throw new Refused(401, "signature_invalid");
  return { wallet, signature, nonce, message: `${wallet}:${timestamp}:${nonce}` };
}

const nonces = new Map(); // nonce → when it may be forgotten, oldest first

export function consume(wallet, nonce) {
  const now = Date.now();
  for (const [key, until] of nonces) {
    if (until > now) break;
    nonces.delete(key);
  }
  const key = `${wallet}:${nonce}`.toLowerCase();
  if (nonces.has(key)) throw new Refused(401, "nonce_reused");
  nonces.set(key, now + 2 * WINDOW_MS);
}

const LIMIT = Number(process.env.REQUESTS_PER_MINUTE);
const counted = new Map(); // key → the window's start, and how often it asked

export function limit(key) {
  const now = Date.now();
  const window = counted.get(key);
  if (window === undefined || now - window.start >= WINDOW_MS) counted.set(key, { start: now, count: 1 });
  else if (++window.count > LIMIT) throw new Refused(429, "rate_limited");
}
