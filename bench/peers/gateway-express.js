// A gateway as one would write it first, which does the same work as ours: Express, viem, mppx,
// better-sqlite3. It checks the wallet's signature, reads the upload, stores a quote and asks to be
// paid; and, once it is, claims the payment, books it and gives a receipt. What settles an
// authorization is a stub, as in ours; a settlement is stored before it is made, and a credit with
// its claim, both durably.

import { createHash, randomUUID } from "node:crypto";
import Database from "better-sqlite3";
import express from "express";
import { Mppx, evm } from "mppx/express";
import { verifyMessage } from "viem";
import { Refused, consume, limit, signedHeaders } from "./gate.js";

const NAME = /^[a-z0-9](?:[a-z0-9-]{1,30}[a-z0-9])$/;
const QUOTE_MS = 30 * 60_000;
const PRICE_MICRO_USD = 500_000;

const db = new Database(process.env.DATABASE);
db.pragma("journal_mode = WAL");
db.exec(`
  CREATE TABLE names (unique_name TEXT PRIMARY KEY, wallet TEXT NOT NULL, held_until_ms INTEGER NOT NULL);
  CREATE TABLE quotes (id TEXT PRIMARY KEY, wallet TEXT NOT NULL, unique_name TEXT NOT NULL, price INTEGER NOT NULL,
                       expires_at_ms INTEGER NOT NULL);
  CREATE TABLE wallets (address TEXT PRIMARY KEY, balance INTEGER NOT NULL);
  CREATE TABLE settlements (nonce TEXT PRIMARY KEY, payer TEXT NOT NULL, status TEXT NOT NULL);
  CREATE TABLE payments (tx_hash TEXT PRIMARY KEY, payer TEXT NOT NULL, amount INTEGER NOT NULL);
  CREATE TABLE entries (event TEXT NOT NULL, account TEXT NOT NULL, amount INTEGER NOT NULL, PRIMARY KEY (event, account));
`);
const nameOf = db.prepare("SELECT wallet, held_until_ms FROM names WHERE unique_name = ?");
const balanceOf = db.prepare("SELECT balance FROM wallets WHERE address = ?");
const hold = db.prepare("INSERT OR REPLACE INTO names VALUES (?, ?, ?)");
const addQuote = db.prepare("INSERT INTO quotes VALUES (?, ?, ?, ?, ?)");
const intend = db.prepare("INSERT INTO settlements VALUES (?, ?, 'intended')");
const settled = db.prepare("UPDATE settlements SET status = 'settled' WHERE nonce = ?");
const claim = db.prepare("INSERT INTO payments VALUES (?, ?, ?)");
const post = db.prepare("INSERT INTO entries VALUES (?, ?, ?)");
const credit = db.prepare(
  "INSERT INTO wallets VALUES (?, ?) ON CONFLICT (address) DO UPDATE SET balance = balance + excluded.balance",
);

const quote = db.transaction((wallet, name, now) => {
  const held = nameOf.get(name);
  if (held !== undefined && held.wallet !== wallet && held.held_until_ms > now) throw new Refused(400, "name_unavailable");
  hold.run(name, wallet, now + QUOTE_MS);
  addQuote.run(randomUUID(), wallet, name, PRICE_MICRO_USD, now + QUOTE_MS);
});

const book = db.transaction((wallet, hash) => {
  settled.run(hash);
  claim.run(hash, wallet, PRICE_MICRO_USD);
  post.run(hash, `wallet:${wallet}`, PRICE_MICRO_USD);
  post.run(hash, "received", -PRICE_MICRO_USD);
  credit.run(wallet, PRICE_MICRO_USD);
});

/** Runs a write whose commit is on the disk when it returns. */
function durably(write) {
  db.pragma("synchronous = FULL");
  try {
    return write();
  } finally {
    db.pragma("synchronous = NORMAL");
  }
}

const payments = Mppx.create({
  methods: [
    evm.charge({
      currency: evm.assets.base.USDC,
      recipient: process.env.PAY_TO,
      settle: async ({ payload }) => {
        durably(() => intend.run(payload.nonce, payload.from));
        return { reference: payload.nonce };
      },
    }),
  ],
  realm: "127.0.0.1",
  secretKey: process.env.SECRET,
});

async function signed(request, _response, next) {
  const { wallet, signature, nonce, message } = signedHeaders(request.headers);
  if (!(await verifyMessage({ address: wallet, message, signature }))) throw new Refused(401, "signature_invalid");
  consume(wallet, nonce);
  limit(wallet);
  request.wallet = wallet.toLowerCase();
  next();
}

/** Reads the files of an upload, and plans them: what any hosting looks for first. */
function planned(request, _response, next) {
  const { uniqueName, upload } = request.body;
  if (!NAME.test(uniqueName)) throw new Refused(400, "invalid_request");
  const digest = createHash("sha256");
  const files = new Map();
  for (const { path, content } of upload.files) {
    if (path.startsWith("/") || path.split("/").includes("..")) throw new Refused(400, "upload_invalid");
    const bytes = Buffer.from(content, "base64");
    digest.update(path).update(bytes);
    files.set(path, bytes);
  }
  if (!files.has("package.json")) throw new Refused(400, "plan_not_found");
  request.plan = { digest: digest.digest("hex"), start: JSON.parse(files.get("package.json")).scripts?.start };
  next();
}

function quoted(request, _response, next) {
  if ((balanceOf.get(request.wallet)?.balance ?? 0) < PRICE_MICRO_USD) quote(request.wallet, request.body.uniqueName, Date.now());
  next();
}

const app = express();

app.use(express.json());
app.post("/agent/deploy", signed, planned, quoted, payments.charge({ amount: "0.5" }), (_request, response) => {
  response.json({ message: "Paid." });
});
app.post("/agent/credits", signed, payments.charge({ amount: "0.5" }), (request, response) => {
  const { payload } = JSON.parse(Buffer.from(request.headers.authorization.slice("Payment ".length), "base64url"));
  durably(() => book(request.wallet, payload.nonce));
  response.json({ credited_usd: 0.5, balance_usd: balanceOf.get(request.wallet).balance / 1_000_000 });
});

app.use((error, _request, response, _next) => {
  response.status(error.status ?? 500).json({ error: error.message, code: error.message, retryable: false });
});

app.listen(Number(process.env.PORT), "127.0.0.1", () => console.log("ready"));
