#!/usr/bin/env node
// A protoc plugin that writes the typed client: for each proto file the types that
// protoc-gen-es writes with a module of its own, and for each service a module to
// import it from.

import { create, createFileRegistry } from "@bufbuild/protobuf";
import { CodeGeneratorResponseSchema, CodeGeneratorResponse_FileSchema, FileDescriptorSetSchema } from "@bufbuild/protobuf/wkt";
import es from "@bufbuild/protoc-gen-es/dist/cjs/src/protoc-gen-es-plugin.js";
import { runNodeJs } from "@bufbuild/protoplugin";
import { moduleOf } from "./module.js";
import { entryOf } from "./entry.js";

runNodeJs({ name: "protoc-gen-client", version: "v1", run });

function run(request) {
  const registry = createFileRegistry(create(FileDescriptorSetSchema, { file: request.protoFile }));
  const names = request.fileToGenerate.filter((name) => !isLeftOut(name));
  const types = es.protocGenEs.run({ ...request, fileToGenerate: names, parameter: "target=dts,import_extension=js" });
  if (types.error) return types;

  const out = types.file.map(({ name, content }) => ({ name, content: concise(content) }));
  for (const name of names) {
    const file = registry.getFile(name);
    out.push({ name: `${file.name}_pb.js`, content: moduleOf(file) });
    for (const service of file.services) {
      const [path, content] = entryOf(service);
      out.push({ name: `${path}.js`, content: content(false) }, { name: `${path}.d.ts`, content: content(true) });
    }
  }
  return create(CodeGeneratorResponseSchema, {
    supportedFeatures: types.supportedFeatures,
    minimumEdition: types.minimumEdition,
    maximumEdition: types.maximumEdition,
    file: out.map((f) => create(CodeGeneratorResponse_FileSchema, f)),
  });
}

// isLeftOut says whether a file is the runtime's, or holds only options, which the
// client has no use for.
function isLeftOut(name) {
  return name.startsWith("google/protobuf/") || name.startsWith("google/api/");
}

// concise takes out of what protoc-gen-es declares the descriptor of the whole file,
// as there is none, and the notes on which line of the file each name comes from,
// which are half of the text.
function concise(text) {
  return text
    .replace(/\/\*\*\n \* Describes the file .*\n(?: \*.*\n)*? \*\/\nexport declare const file_\w+: GenFile;\n\n/, "")
    .replace(/\bGenFile, |, GenFile\b/, "")
    .replace(/^import type \{ GenFile \} .*\n/m, "")
    .replace(/^ *\/\*\*\n *\* @generated from .*\n *\*\/\n/gm, "")
    .replace(/^( *\*\n)? *\* @generated from .*\n/gm, "")
    .replace(/(;|,)\n\n(?=  +\w)/g, "$1\n");
}
