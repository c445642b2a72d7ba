// Builds an HNSW index of random vectors, and measures it for several ef. It is a worker, so that
// the page stays responsive.

import { Hnsw, flat, random } from "./hnsw.js";

const [VECTORS, DIMENSIONS, QUERIES, NEAREST] = [5000, 24, 50, 10];
const ROUNDS = 5;
const EFS = [10, 20, 40, 80, 160];
const draw = random(7);
const normal = () => Math.sqrt(-2 * Math.log(draw() || 1e-9)) * Math.cos(2 * Math.PI * draw());
const vector = () => Float32Array.from({ length: DIMENSIONS }, normal);
const index = new Hnsw(8, 64, draw);
for (let count = 0; count < VECTORS; count++) index.add(vector());
const queries = Array.from({ length: QUERIES }, vector);

// Returns the results of all queries, and the time of one in the fastest of several rounds. The
// first rounds also wait for the browser's compiler.
function timed(run) {
  let results = [];
  const times = Array.from({ length: ROUNDS }, () => {
    const began = performance.now();
    results = queries.map(run);
    return performance.now() - began;
  });
  return { results, milliseconds: Math.min(...times) / QUERIES };
}

const exact = timed((query) => flat(index.vectors, query, NEAREST));
const rows = EFS.map((ef) => {
  const { results, milliseconds } = timed((query) => index.search(query, NEAREST, ef));
  const found = results.map(({ ids }, at) => ids.filter((id) => exact.results[at].includes(id)).length);
  const mean = (values) => values.reduce((one, other) => one + other, 0) / QUERIES;
  return { ef, recall: mean(found) / NEAREST, compared: mean(results.map(({ seen }) => seen.length)), milliseconds };
});
postMessage({ rows, flat: { recall: 1, compared: VECTORS, milliseconds: exact.milliseconds } });
