// What of a proto file belongs together: the messages that hold each other. All
// else stands alone.

// topOf returns the message, enum or service that stands in its file itself.
export function topOf(desc) {
  return desc.parent ? topOf(desc.parent) : desc;
}

// needsOf returns what a type of a file's top level needs: the types of its fields,
// and of its methods' messages, by what stands at the top level around them.
export function needsOf(desc) {
  const needs = new Set();
  const visit = (d) => {
    for (const field of d.fields ?? []) {
      const type = field.message ?? field.enum;
      if (type) needs.add(topOf(type));
    }
    for (const nested of d.nestedMessages ?? []) visit(nested);
    for (const method of d.methods ?? []) needs.add(topOf(method.input)).add(topOf(method.output));
  };
  visit(desc);
  needs.delete(desc);
  return [...needs];
}

const known = new WeakMap();

// componentsOf splits a file into lists of types, each after those that it needs.
// What the types of a list need in other files is not theirs: proto files do not
// import each other in circles.
export function componentsOf(file) {
  if (!known.has(file)) known.set(file, split(file));
  return known.get(file);
}

// split finds strongly connected components, as Tarjan does.
function split(file) {
  const index = new Map();
  const low = new Map();
  const open = [];
  const found = [];
  const visit = (v) => {
    index.set(v, index.size);
    low.set(v, index.get(v));
    open.push(v);
    for (const w of needsOf(v)) {
      if (w.file !== file) continue;
      if (!index.has(w)) {
        visit(w);
        low.set(v, Math.min(low.get(v), low.get(w)));
      } else if (open.includes(w)) low.set(v, Math.min(low.get(v), index.get(w)));
    }
    if (low.get(v) === index.get(v)) found.push(open.splice(open.indexOf(v)));
  };
  for (const desc of [...file.enums, ...file.messages, ...file.services]) if (!index.has(desc)) visit(desc);
  return found;
}
