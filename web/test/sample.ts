// A page of another origin, as the tests of the wire have it. Each function returns
// what its script sees: the result, or the failure in words; and of each answer the
// status and the headers.

import { toJson } from "@bufbuild/protobuf";
import { createClient } from "@connectrpc/connect";
import { type Credential, createTransport, because, diagnose, retry, type RetryOptions, tail } from "@c1proxy/client";
import { Apps, AppSchema } from "@c1proxy/client/c1.api.app.v1/Apps";
import { ConfirmSyncValidResponseSchema, type ConfirmSyncValidResponse, ConnectorService } from "@c1proxy/client/c1.api.app.v1/ConnectorService";
import { AuditService } from "@c1proxy/client/c1proxy.v1/AuditService";

interface Setup {
  readonly baseUrl: string;
  readonly credential: Credential;
  readonly protocol?: "connect" | "grpc-web";
  readonly useBinaryFormat?: boolean;
  readonly retry?: RetryOptions;
}

interface Answer {
  readonly status: number;
  readonly headers: Record<string, string>;
}

const answers: Answer[] = [];

const watched: typeof fetch = async (input, init) => {
  const response = await fetch(input, init);
  answers.push({ status: response.status, headers: Object.fromEntries(response.headers) });
  return response;
};

function transport({ retry: again, ...setup }: Setup) {
  return createTransport({ ...setup, fetch: watched, interceptors: again ? [retry(again)] : [] });
}

async function seen<T>(baseUrl: string, method: Parameters<typeof diagnose>[1]["method"], call: () => Promise<T>) {
  answers.length = 0;
  try {
    return { result: await call(), answers: [...answers] };
  } catch (thrown) {
    const { error, ...failure } = await diagnose(thrown, { baseUrl, ...(method && { method }) });
    return { failure, details: error.details.length, answers: [...answers] };
  }
}

const page = {
  confirm: (setup: Setup, appId: string, connectorId: string, syncLifecycleId: string, reason: string) =>
    seen(setup.baseUrl, ConnectorService.method.confirmSyncValid, async () => {
      const response: ConfirmSyncValidResponse = await createClient(ConnectorService, transport(setup)).confirmSyncValid(
        { appId, connectorId, syncLifecycleId },
        { headers: because(reason) },
      );
      return { type: response.$typeName, json: toJson(ConfirmSyncValidResponseSchema, response) };
    }),

  apps: (setup: Setup, pageSize: number, options: { abortAfterMs?: number; timeoutMs?: number } = {}) =>
    seen(setup.baseUrl, Apps.method.list, async () => {
      const { abortAfterMs, ...rest } = options;
      const gone = new AbortController();
      if (abortAfterMs !== undefined) setTimeout(() => gone.abort(), abortAfterMs);
      const { list } = await createClient(Apps, transport(setup)).list({ pageSize }, { ...rest, signal: gone.signal });
      return list.map((app) => toJson(AppSchema, app));
    }),

  // The records that a tail sends, until there are so many.
  follow: (setup: Setup, procedure: string, count: number) =>
    seen(setup.baseUrl, AuditService.method.tail, async () => {
      const gone = new AbortController();
      const found: { seq: string; kind: string; caller: string; reason: string }[] = [];
      const numbers: string[] = [];
      for await (const { records, next } of tail(createClient(AuditService, transport(setup)), { from: 0n }, { signal: gone.signal, maxWaitMs: 500 })) {
        numbers.push(String(next));
        for (const { seq, kind, caller, reason, procedure: of } of records) if (of === procedure) found.push({ seq: String(seq), kind, caller, reason });
        if (found.length >= count) gone.abort();
        else document.title = `${found.length} records`;
      }
      return { found, numbers };
    }),
};

declare global {
  var c1: typeof page;
}

globalThis.c1 = page;
document.querySelector("h1")!.textContent = "ready";
