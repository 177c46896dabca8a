// node validate_glb.js MODULE FILE: prints the Khronos validator's report of one GLB as JSON.
const [modulePath, file] = process.argv.slice(2);
require(modulePath)
  .validateBytes(new Uint8Array(require("fs").readFileSync(file)))
  .then(report => console.log(JSON.stringify(report.issues)));
