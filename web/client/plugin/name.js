// Names in generated code: protoc-gen-es's.

import { safeIdentifier } from "@bufbuild/protoplugin";

// shapeOf names the type of a message or enum.
export function shapeOf(desc) {
  return safeIdentifier(inFile(desc));
}

// schemaOf names the descriptor of a message, enum or service.
export function schemaOf(desc) {
  return desc.kind === "service" ? safeIdentifier(desc.name) : `${inFile(desc)}Schema`;
}

// inFile joins a type's name to those of the messages that it stands in.
function inFile(desc) {
  return desc.parent ? `${inFile(desc.parent)}_${desc.name}` : desc.name;
}
