// Compiles the contracts of this folder into src/moorage/chains/devtokens.json.
//
//   solc=$(mktemp -d) && npm install --prefix "$solc" solc@0.8.37
//   node contracts/compile.mjs "$solc/node_modules/solc"
//
// The same compiler, sources and settings give the same file, byte for byte. A unit test compares
// the digests of the sources in it with the files here, so a forgotten run is noticed.

import { createHash } from "node:crypto";
import { readdirSync, readFileSync, writeFileSync } from "node:fs";
import { createRequire } from "node:module";
import { dirname, join, resolve } from "node:path";
import { fileURLToPath } from "node:url";

const SOLC_VERSION = "0.8.37";
const folder = dirname(fileURLToPath(import.meta.url));
const artifact = join(folder, "..", "src", "moorage", "chains", "devtokens.json");
const settings = {
  evmVersion: "cancun",
  optimizer: { enabled: true, runs: 200 },
  viaIR: true,
  metadata: { appendCBOR: false, bytecodeHash: "none" },
  outputSelection: { "*": { "*": ["evm.deployedBytecode.object", "evm.methodIdentifiers"] } },
};

if (process.argv.length !== 3) {
  console.error("usage: node contracts/compile.mjs PATH_TO_THE_SOLC_PACKAGE");
  process.exit(2);
}
const solc = createRequire(import.meta.url)(resolve(process.argv[2]));
if (!solc.version().startsWith(`${SOLC_VERSION}+`)) {
  console.error(`solc ${SOLC_VERSION} is wanted, not ${solc.version()}`);
  process.exit(1);
}

const sources = Object.fromEntries(
  readdirSync(folder)
    .filter((name) => name.endsWith(".sol"))
    .sort()
    .map((name) => [name, { content: readFileSync(join(folder, name), "utf8") }]),
);
const output = JSON.parse(
  solc.compile(JSON.stringify({ language: "Solidity", sources, settings })),
);
const problems = output.errors ?? [];
problems.forEach((problem) => console.error(problem.formattedMessage));
if (problems.length > 0) process.exit(1);

const contracts = {};
for (const file of Object.values(output.contracts)) {
  for (const [name, contract] of Object.entries(file)) {
    const runtime = contract.evm.deployedBytecode.object;
    if (runtime === "") continue; // abstract
    contracts[name] = { runtime: `0x${runtime}`, selectors: contract.evm.methodIdentifiers };
  }
}
const digests = Object.fromEntries(
  Object.entries(sources).map(([name, { content }]) => [
    name,
    createHash("sha256").update(content).digest("hex"),
  ]),
);
const { outputSelection, ...codeSettings } = settings;
writeFileSync(
  artifact,
  `${JSON.stringify({ compiler: solc.version(), settings: codeSettings, sources: digests, contracts }, null, 1)}\n`,
);
