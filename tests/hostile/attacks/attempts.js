// The same kind of attempt from Node, whose runtime uses other system calls than Python's.
const fs = require("node:fs");
const net = require("node:net");
const { spawnSync } = require("node:child_process");

const [name, ...args] = process.argv.slice(2);

function report(succeeded, detail) {
  console.log(JSON.stringify({ attempt: name, succeeded, detail }));
  process.exit(0);
}

const attempts = {
  "js-tcp": (host, port) => {
    const socket = net.connect({ host, port: Number(port), timeout: 30000 });
    socket.on("data", (data) => report(true, data.toString().trim()));
    socket.on("timeout", () => report(false, "timeout"));
    socket.on("error", (error) => report(false, error.code));
    socket.on("end", () => report(false, "closed"));
  },
  "js-read": (path) => {
    try {
      report(true, `${fs.readFileSync(path).length} bytes`);
    } catch (error) {
      report(false, error.code);
    }
  },
  "js-unshare": () => {
    const done = spawnSync("unshare", ["--user", "true"]);
    report(done.status === 0, done.status === 0 ? "made" : `exit ${done.status}`);
  },
};

attempts[name](...args);
