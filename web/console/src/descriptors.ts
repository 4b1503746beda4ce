import { type Catalog, readCatalog } from "./explorer/catalog";

let loaded: Promise<Catalog> | undefined;

/** The methods that the gateway has, by its own description of them; fetched once. */
export function loadCatalog(): Promise<Catalog> {
  loaded ??= fetchCatalog().catch((thrown) => {
    loaded = undefined;
    throw thrown;
  });
  return loaded;
}

async function fetchCatalog(): Promise<Catalog> {
  const response = await fetch(`${import.meta.env.BASE_URL}descriptors.binpb`, { credentials: "omit" });
  if (!response.ok) throw new Error(`descriptors.binpb: HTTP ${response.status}`);
  return readCatalog(new Uint8Array(await response.arrayBuffer()));
}
