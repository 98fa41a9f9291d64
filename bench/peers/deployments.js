// The row behind a status, and the contract's body for it.

import Database from "better-sqlite3";

const db = new Database(process.env.DATABASE, { readonly: true });
const byId = db.prepare(
  `SELECT d.id, d.project_id, d.status, d.reason, d.reason_code, d.log_tail, d.note,
          p.wallet, p.unique_name, p.status AS project_status
     FROM deployments d JOIN projects p ON p.id = d.project_id
    WHERE d.id = ? AND p.deleted_at_ms IS NULL`,
);

export function deployment(projectId, deploymentId) {
  const row = byId.get(deploymentId);
  return row !== undefined && row.project_id === projectId ? row : undefined;
}

export function progress(row) {
  if (row.status === "failed")
    return {
      status: "failed",
      deployment_id: row.id,
      reason: row.reason,
      reason_code: row.reason_code,
      log_tail: row.log_tail,
    };
  if (row.status !== "ready")
    return { status: "deploying", deployment_id: row.id, deployment_status: row.status };
  return { status: "ready", deployment_id: row.id, endpoint: `http://${row.unique_name}.localhost:8080` };
}
