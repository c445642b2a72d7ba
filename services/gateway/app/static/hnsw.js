// A small HNSW index, as in Malkov and Yashunin, "Efficient and robust approximate nearest neighbor
// search using Hierarchical Navigable Small World graphs" (https://arxiv.org/abs/1603.09320).

// Returns a function with random numbers from 0 to 1, the same for the same seed (mulberry32).
export function random(seed) {
  return () => {
    seed = (seed + 0x6d2b79f5) | 0;
    let mixed = Math.imul(seed ^ (seed >>> 15), 1 | seed);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 4294967296;
  };
}

export function squared(one, other) {
  let sum = 0;
  for (let at = 0; at < one.length; at++) sum += (one[at] - other[at]) ** 2;
  return sum;
}

// Inserts a candidate into a list that is sorted by distance.
function insert(list, candidate) {
  let low = 0;
  let high = list.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (list[middle].distance < candidate.distance) low = middle + 1;
    else high = middle;
  }
  list.splice(low, 0, candidate);
}

export class Hnsw {
  // `links` is the number of links of a vector on the upper layers; the lowest layer has twice as many.
  constructor(links, efConstruction, draw) {
    Object.assign(this, { links, efConstruction, draw, vectors: [], layers: [], entry: -1 });
  }

  add(vector) {
    const id = this.vectors.push(vector) - 1;
    const top = Math.floor(-Math.log(this.draw() || 1e-9) / Math.log(this.links));
    let entry = this.entry;
    for (let layer = this.layers.length - 1; layer > top; layer--) [{ id: entry }] = this.walk(vector, [entry], 1, layer);
    for (let layer = Math.min(top, this.layers.length - 1); layer >= 0; layer--) {
      const found = this.walk(vector, [entry], this.efConstruction, layer);
      this.layers[layer].set(id, this.choose(found, this.links));
      for (const neighbour of this.layers[layer].get(id)) this.link(neighbour, id, layer);
      [{ id: entry }] = found;
    }
    while (this.layers.length <= top) {
      this.layers.push(new Map([[id, []]]));
      this.entry = id;
    }
  }

  // Links a vector with a new one, and drops its worst link if it has too many.
  link(id, added, layer) {
    const neighbours = [...this.layers[layer].get(id), added];
    const most = layer ? this.links : 2 * this.links;
    const sorted = neighbours.map((other) => ({ id: other, distance: squared(this.vectors[id], this.vectors[other]) }));
    sorted.sort((one, other) => one.distance - other.distance);
    this.layers[layer].set(id, neighbours.length > most ? this.choose(sorted, most) : neighbours);
  }

  // Chooses near vectors that lie in different directions (algorithm 4 of the paper).
  choose(sorted, most) {
    const chosen = [];
    for (const candidate of sorted) {
      if (chosen.length === most) break;
      const vector = this.vectors[candidate.id];
      if (chosen.every((other) => squared(vector, this.vectors[other]) > candidate.distance)) chosen.push(candidate.id);
    }
    return chosen;
  }

  // Returns the `ef` nearest candidates of one layer, nearest first. `seen` collects what was compared.
  walk(query, entries, ef, layer, seen = []) {
    const visited = new Set(entries);
    const best = [];
    const open = [];
    for (const id of entries) {
      seen.push(id);
      insert(best, { id, distance: squared(query, this.vectors[id]) });
      insert(open, best[0]);
    }
    while (open.length) {
      const nearest = open.shift();
      if (best.length >= ef && nearest.distance > best[best.length - 1].distance) break;
      for (const id of this.layers[layer].get(nearest.id)) {
        if (visited.has(id)) continue;
        visited.add(id);
        seen.push(id);
        const candidate = { id, distance: squared(query, this.vectors[id]) };
        if (best.length >= ef && candidate.distance >= best[best.length - 1].distance) continue;
        insert(best, candidate);
        insert(open, candidate);
        if (best.length > ef) best.pop();
      }
    }
    return best;
  }

  // Returns the ids of the nearest vectors, and all ids that were compared, in order.
  search(query, count, ef) {
    const seen = [];
    let entry = this.entry;
    for (let layer = this.layers.length - 1; layer > 0; layer--) [{ id: entry }] = this.walk(query, [entry], 1, layer, seen);
    const found = this.walk(query, [entry], Math.max(ef, count), 0, seen);
    return { ids: found.slice(0, count).map(({ id }) => id), seen };
  }
}

// Returns the ids of the nearest vectors, by comparing all.
export function flat(vectors, query, count) {
  const distances = vectors.map((vector) => squared(query, vector));
  return [...vectors.keys()].sort((one, other) => distances[one] - distances[other]).slice(0, count);
}
