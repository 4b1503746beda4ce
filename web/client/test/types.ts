// Types that must hold: npm run types. Each @ts-expect-error fails where there is none.

import { create } from "@bufbuild/protobuf";
import type { Timestamp } from "@bufbuild/protobuf/wkt";
import { type Client, createClient, type Interceptor, type Transport } from "@connectrpc/connect";
import { authenticate, because, type Credential, createTransport, explain, type Failure, retry, tail } from "@c1proxy/client";
import { type Failure as SameFailure } from "@c1proxy/client/errors";
import { createTransport as sameTransport } from "@c1proxy/client/transport";
import { type Connector, ConnectorService, ConfirmSyncValidRequestSchema, type ConfirmSyncValidResponse } from "@c1proxy/client/c1.api.app.v1/ConnectorService";
import { AuditService, type Record as AuditRecord } from "@c1proxy/client/c1proxy.v1/AuditService";
import { type Connector as SameConnector, ConnectorService as SameService } from "@c1proxy/client/gen/c1/api/app/v1/app_pb";
import { ErrorInfoSchema } from "@c1proxy/client/gen/google/rpc/error_details_pb";

type Equal<A, B> = (<T>() => T extends A ? 1 : 2) extends <T>() => T extends B ? 1 : 2 ? true : false;
const holds = <T extends true>(_?: T) => {};

const transport: Transport = createTransport({ baseUrl: "https://x", credential: "k" });
const client = createClient(ConnectorService, transport);

holds<Equal<Awaited<ReturnType<typeof client.confirmSyncValid>>, ConfirmSyncValidResponse>>();
holds<Equal<Connector, SameConnector>>();
holds<Equal<typeof ConnectorService, typeof SameService>>();
holds<Equal<Failure, SameFailure>>();
holds<Equal<typeof createTransport, typeof sameTransport>>();
holds<Equal<Connector["createdAt"], Timestamp | undefined>>();
holds<Equal<AuditRecord["seq"], bigint>>();
holds<Equal<Failure["retryAfterMs"], number | undefined>>();

export const asked: Credential[] = ["k", () => "k", async (signal) => (signal.aborted ? "" : "k")];
export const interceptors: Interceptor[] = [retry(), authenticate({ credential: "k" })];
export const message = create(ConfirmSyncValidRequestSchema, { appId: "a" });
export const audit: Client<typeof AuditService> = createClient(AuditService, transport);
export const stream = tail(audit, { from: 5n });
export const info = create(ErrorInfoSchema, { reason: "X" });
export const failure: Failure = explain(new Error("x"), ConnectorService.method.confirmSyncValid);

void client.confirmSyncValid(message, { headers: because("x") });
// @ts-expect-error a field that there is not
void client.confirmSyncValid({ appID: "a" });
// @ts-expect-error a value of another type
void client.confirmSyncValid({ appId: 1 });
// @ts-expect-error a method that there is not
void client.confirm({});
// @ts-expect-error no credential
createTransport({ baseUrl: "https://x" });
// @ts-expect-error a protocol that no browser speaks
createTransport({ baseUrl: "https://x", credential: "k", protocol: "grpc" });
// @ts-expect-error a method's name is none
explain(new Error("x"), "confirmSyncValid");
// @ts-expect-error tail is AuditService's
tail(client, {});
