/** The domain of c1proxy's own ErrorInfo. */
export const gatewayDomain = "c1proxy";

/** The domain of the ErrorInfo that this package makes, of what was never sent. */
export const clientDomain = "c1proxy-client";
