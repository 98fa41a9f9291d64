// x402 by its own middleware, as its documentation sets it up on Express, with a facilitator in the
// same process: no request that goes unpaid asks it anything.

import { ExactEvmScheme } from "@x402/evm/exact/server";
import { paymentMiddleware, x402ResourceServer } from "@x402/express";
import express from "express";

const NETWORK = "eip155:42161";

const facilitator = {
  getSupported: async () => ({
    kinds: [{ x402Version: 2, scheme: "exact", network: NETWORK }],
    extensions: [],
    signers: {},
  }),
  verify: async () => ({ isValid: false, invalidReason: "unsupported_scheme" }),
  settle: async () => ({ success: false, network: NETWORK, transaction: "" }),
};

const server = new x402ResourceServer(facilitator).register(NETWORK, new ExactEvmScheme());
const app = express();

app.use(express.json());
app.use(
  paymentMiddleware(
    { "POST /agent/deploy": { accepts: { scheme: "exact", price: "$0.50", network: NETWORK, payTo: process.env.PAY_TO } } },
    server,
  ),
);
app.post("/agent/deploy", (_request, response) => {
  response.json({ message: "Paid." });
});

app.listen(Number(process.env.PORT), "127.0.0.1", () => console.log("ready"));
