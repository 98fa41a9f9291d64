// The Machine Payments Protocol by its own SDK, as its documentation sets it up on Express. What
// settles an authorization is a stub; mppx has checked its challenge and its signature by then.

import express from "express";
import { Mppx, evm } from "mppx/express";

const payments = Mppx.create({
  methods: [
    evm.charge({
      currency: evm.assets.base.USDC,
      recipient: process.env.PAY_TO,
      settle: async ({ payload }) => ({ reference: payload.nonce }),
    }),
  ],
  realm: "127.0.0.1",
  secretKey: process.env.SECRET,
});

const app = express();

app.use(express.json());
app.post("/agent/deploy", payments.charge({ amount: "0.5" }), (_request, response) => {
  response.json({ message: "Paid." });
});

app.listen(Number(process.env.PORT), "127.0.0.1", () => console.log("ready"));
