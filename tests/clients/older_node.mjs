// Lets the conformance suite, which needs Node 22 for one function that these tests never reach,
// run on Node 20 unmodified: `node --import ./older_node.mjs …`.
import * as fs from "node:fs";
import { register } from "node:module";

const hooks = `
  export const resolve = (specifier, context, next) =>
    specifier === "fs" && context.parentURL?.includes("/conformance/")
      ? { url: "lacking:fs", shortCircuit: true }
      : next(specifier, context);
  export const load = (url, context, next) =>
    url === "lacking:fs"
      ? {
          format: "module",
          shortCircuit: true,
          source: 'export * from "node:fs"; export const globSync = () => [];',
        }
      : next(url, context);
`;

if (!fs.globSync) register("data:text/javascript," + encodeURIComponent(hooks));
