// What one would write first: Express, viem, better-sqlite3.

import express from "express";
import { verifyMessage } from "viem";
import { deployment, progress } from "./deployments.js";
import { Refused, consume, limit, signedHeaders } from "./gate.js";

const app = express();

app.get("/agent/deploy/:projectId/:deploymentId/status", async (request, response) => {
  const { wallet, signature, nonce, message } = signedHeaders(request.headers);
  if (!(await verifyMessage({ address: wallet, message, signature }))) throw new Refused(401, "signature_invalid");
  consume(wallet, nonce);
  const { projectId, deploymentId } = request.params;
  const row = deployment(projectId, deploymentId);
  if (row === undefined) throw new Refused(404, "deployment_not_found");
  if (row.wallet !== wallet.toLowerCase()) throw new Refused(403, "wrong_wallet");
  limit(deploymentId);
  response.json(progress(row));
});

app.use((error, _request, response, _next) => {
  response.status(error.status ?? 500).json({ error: error.message, code: error.message, retryable: false });
});

app.listen(Number(process.env.PORT), "127.0.0.1", () => console.log("ready"));
