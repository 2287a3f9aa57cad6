// Describes the header of a LAS, LAZ or COPC file; writes header.json.
const fs = require("node:fs");
const path = require("node:path");

async function main() {
  let text = "";
  for await (const chunk of process.stdin) text += chunk;
  const names = JSON.parse(text).fields ?? ["version", "points", "bounds"];
  const head = Buffer.alloc(375);
  const file = fs.openSync(process.env.GRID_INPUT);
  fs.readSync(file, head, 0, head.length, 0);
  const minor = head.readUInt8(25);
  const number = (at) => head.readDoubleLE(at);
  const all = {
    version: `1.${minor}`,
    points: minor >= 4 ? Number(head.readBigUInt64LE(247)) : head.readUInt32LE(107),
    bounds: { x: [number(187), number(179)], y: [number(203), number(195)], z: [number(219), number(211)] },
  };
  const chosen = Object.fromEntries(names.map((name) => [name, all[name]]));
  fs.writeFileSync(path.join(process.env.GRID_OUTPUT, "header.json"), JSON.stringify(chosen, null, 2));
  console.log(JSON.stringify({ threads: require("node:os").availableParallelism(), home: require("node:os").userInfo().homedir }));
}

main().catch((error) => {
  console.error(error.message);
  process.exit(1);
});
