// Compiles the contracts of this folder: those for local chains (Dev….sol) into
// src/moorage/chains/local/devtokens.json, the others, which run on real ones, into
// src/moorage/auth/contracts.json.
//
//   solc=$(mktemp -d) && npm install --prefix "$solc" solc@0.8.37
//   node contracts/compile.mjs "$solc/node_modules/solc"
//
// The same compiler, sources and settings give the same files, byte for byte. Unit tests compare
// the digests of the sources in them with the files here, so a forgotten run is noticed.

import { createHash } from "node:crypto";
import { readdirSync, readFileSync, writeFileSync } from "node:fs";
import { createRequire } from "node:module";
import { dirname, join, resolve } from "node:path";
import { fileURLToPath } from "node:url";

const SOLC_VERSION = "0.8.37";
const folder = dirname(fileURLToPath(import.meta.url));
const artifacts = [
  {
    path: "chains/local/devtokens.json",
    isSource: (name) => name.startsWith("Dev"),
    evmVersion: "cancun",
    // Put at any address of a local chain.
    outputs: ["evm.deployedBytecode.object", "evm.methodIdentifiers"],
    describe: ({ evm }) => ({
      runtime: `0x${evm.deployedBytecode.object}`,
      selectors: evm.methodIdentifiers,
    }),
  },
  {
    path: "auth/contracts.json",
    isSource: (name) => !name.startsWith("Dev"),
    evmVersion: "paris", // also for chains without the instructions of later forks
    // Run as it is, never deployed.
    outputs: ["evm.bytecode.object"],
    describe: ({ evm }) => ({ creation: `0x${evm.bytecode.object}` }),
  },
];

if (process.argv.length !== 3) {
  console.error("usage: node contracts/compile.mjs PATH_TO_THE_SOLC_PACKAGE");
  process.exit(2);
}
const solc = createRequire(import.meta.url)(resolve(process.argv[2]));
if (!solc.version().startsWith(`${SOLC_VERSION}+`)) {
  console.error(`solc ${SOLC_VERSION} is wanted, not ${solc.version()}`);
  process.exit(1);
}

artifacts.forEach(({ path, isSource, evmVersion, outputs, describe }) => {
  const sources = Object.fromEntries(
    readdirSync(folder)
      .filter((name) => name.endsWith(".sol") && isSource(name))
      .sort()
      .map((name) => [name, { content: readFileSync(join(folder, name), "utf8") }]),
  );
  const settings = {
    evmVersion,
    optimizer: { enabled: true, runs: 200 },
    viaIR: true,
    metadata: { appendCBOR: false, bytecodeHash: "none" },
  };
  const output = compile(sources, { ...settings, outputSelection: { "*": { "*": outputs } } });
  const contracts = {};
  for (const file of Object.values(output.contracts)) {
    for (const [name, contract] of Object.entries(file)) {
      const { deployedBytecode, bytecode } = contract.evm;
      if ((deployedBytecode ?? bytecode).object === "") continue; // abstract
      contracts[name] = describe(contract);
    }
  }
  const digests = Object.fromEntries(
    Object.entries(sources).map(([name, { content }]) => [
      name,
      createHash("sha256").update(content).digest("hex"),
    ]),
  );
  const artifact = { compiler: solc.version(), settings, sources: digests, contracts };
  const file = join(folder, "..", "src", "moorage", path);
  writeFileSync(file, `${JSON.stringify(artifact, null, 1)}\n`);
});

function compile(sources, settings) {
  const output = JSON.parse(
    solc.compile(JSON.stringify({ language: "Solidity", sources, settings })),
  );
  const problems = output.errors ?? [];
  problems.forEach((problem) => console.error(problem.formattedMessage));
  if (problems.length > 0) process.exit(1);
  return output;
}
