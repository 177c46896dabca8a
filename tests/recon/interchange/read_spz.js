// node read_spz.js MODULE FILE: prints what Niantic's own decoder (in @spz-loader/core) reads as JSON.
process.type = "renderer"; // its bundle for node lacks a part; as in a browser it is whole
globalThis.window = globalThis;
const { loadSpz } = require(process.argv[2]);
loadSpz(new Uint8Array(require("fs").readFileSync(process.argv[3]))).then(cloud => console.log(JSON.stringify({
  ...cloud, ...Object.fromEntries(
    ["positions", "scales", "rotations", "alphas", "colors"].map(name => [name, Array.from(cloud[name])])) })));
