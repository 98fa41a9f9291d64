// As lean as Node gets: node:http, libsecp256k1 as native code, better-sqlite3. Keccak is the
// JavaScript one that viem and ethers hash with; KECCAK=native takes native code for it as well.

import { createServer } from "node:http";
import { keccak_256 } from "@noble/hashes/sha3";
import createKeccak from "keccak/bindings.js";
import secp256k1 from "secp256k1/bindings.js";
import { deployment, progress } from "./deployments.js";
import { Refused, consume, limit, signedHeaders } from "./gate.js";

const STATUS = /^\/agent\/deploy\/([^/]+)\/([^/]+)\/status$/;

const keccak256 =
  process.env.KECCAK === "native"
    ? (data) => createKeccak("keccak256").update(data).digest()
    : (data) => Buffer.from(keccak_256(data));

function signer(message, signature) {
  const bytes = Buffer.from(signature.slice(2), "hex");
  const text = Buffer.from(message);
  const digest = keccak256(Buffer.concat([Buffer.from(`\x19Ethereum Signed Message:\n${text.length}`), text]));
  const key = secp256k1.ecdsaRecover(bytes.subarray(0, 64), bytes[64] - 27, digest, false);
  return `0x${keccak256(Buffer.from(key.buffer, key.byteOffset + 1, 64)).toString("hex", 12)}`;
}

function answer(request) {
  const match = request.method === "GET" ? STATUS.exec(request.url) : null;
  if (match === null) throw new Refused(404, "not_found");
  const { wallet, signature, nonce, message } = signedHeaders(request.headers);
  if (signer(message, signature) !== wallet.toLowerCase()) throw new Refused(401, "signature_invalid");
  consume(wallet, nonce);
  const row = deployment(match[1], match[2]);
  if (row === undefined) throw new Refused(404, "deployment_not_found");
  if (row.wallet !== wallet.toLowerCase()) throw new Refused(403, "wrong_wallet");
  limit(match[2]);
  return progress(row);
}

createServer((request, response) => {
  let status = 200;
  let body;
  try {
    body = answer(request);
  } catch (error) {
    status = error.status ?? 500;
    body = { error: error.message, code: error.message, retryable: false };
  }
  const text = JSON.stringify(body);
  response.writeHead(status, { "content-type": "application/json", "content-length": Buffer.byteLength(text) });
  response.end(text);
}).listen(Number(process.env.PORT), "127.0.0.1", () => console.log("ready"));
