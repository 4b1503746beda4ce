package config_test

// shipped is a case whose line 19 has this sink.
func shipped(name, sink string, want ...string) problemCase {
	return problemCase{name, auditLine, "audit: {dir: /a, sinks: [" + sink + "]}", want}
}

var sinkProblems = []problemCase{
	shipped("no way", "{name: a}", "19:26: audit.sinks[0]: has none of syslog, webhook: write one"),
	shipped("two ways", "{name: a, syslog: {address: \"a:1\", protocol: tcp}, webhook: {url: https://a.example.com}}",
		"19:26: audit.sinks[0]: has more than one of syslog, webhook: keep one"),
	shipped("no name", "{syslog: {address: \"a:1\", protocol: tcp}}", "19:26: audit.sinks[0].name: is missing: write one, for example siem"),
	shipped("name of a path", "{name: ../a, syslog: {address: \"a:1\", protocol: tcp}}",
		`19:33: audit.sinks[0].name: use lower-case letters, digits and "-", at most 63, and begin with a letter or a digit`),
	shipped("name twice", "{name: a, syslog: {address: \"a:1\", protocol: tcp}}, {name: a, syslog: {address: \"a:1\", protocol: tcp}}",
		`19:85: audit.sinks[1].name: "a" is the name of audit.sinks[0] too: choose another`),
	shipped("format", "{name: a, format: cef, syslog: {address: \"a:1\", protocol: tcp}}", "19:44: audit.sinks[0].format: must be json or ocsf"),
	shipped("kind", "{name: a, kinds: [all], syslog: {address: \"a:1\", protocol: tcp}}",
		"19:44: audit.sinks[0].kinds[0]: must be intent or outcome or denied or event"),
	shipped("no protocol", "{name: a, syslog: {address: \"a:1\"}}", "19:36: audit.sinks[0].syslog.protocol: is missing: write one, for example tls"),
	shipped("protocol", "{name: a, syslog: {address: \"a:1\", protocol: relp}}", "19:71: audit.sinks[0].syslog.protocol: must be tls or tcp or udp"),
	shipped("no port", "{name: a, syslog: {address: siem.example.com, protocol: tcp}}",
		"19:54: audit.sinks[0].syslog.address: is not the address of a server: write its host and port, for example siem.example.com:6514"),
	shipped("no host", "{name: a, syslog: {address: \":514\", protocol: udp}}",
		"19:54: audit.sinks[0].syslog.address: is not the address of a server: write its host and port, for example siem.example.com:6514"),
	shipped("authorities of udp", "{name: a, syslog: {address: \"a:1\", protocol: udp, ca_file: /ca}}",
		"19:85: audit.sinks[0].syslog.ca_file: is for protocol tls alone: remove it, or write protocol: tls"),
	shipped("facility", "{name: a, syslog: {address: \"a:1\", protocol: udp, facility: local8}}",
		"19:86: audit.sinks[0].syslog.facility: must be user or daemon or auth or authpriv or audit or local0 or local1 or local2 or local3 or local4 or local5 or local6 or local7"),
	shipped("no URL", "{name: a, webhook: {url: collector}}",
		"19:51: audit.sinks[0].webhook.url: is not the URL of a webhook: write https:// and where the records go, for example https://collector.example.com/c1proxy"),
	shipped("password", "{name: a, webhook: {url: https://user:password@a.example.com}}",
		"19:51: audit.sinks[0].webhook.url: holds a user or a password: remove it, and write a header named authorization"),
	shipped("fragment", "{name: a, webhook: {url: \"https://a.example.com#secret\"}}", "19:51: audit.sinks[0].webhook.url: has a fragment: remove it"),
	shipped("no port after the colon", "{name: a, webhook: {url: \"https://a.example.com:0\"}}", "19:51: audit.sinks[0].webhook.url: has no valid port"),
	shipped("no such host", "{name: a, webhook: {url: https://127.1}}",
		"19:51: audit.sinks[0].webhook.url: has no valid host: write https:// and where the records go, for example https://collector.example.com/c1proxy"),
	shipped("plain http", "{name: a, webhook: {url: http://a.example.com}}",
		"19:51: audit.sinks[0].webhook.url: is plain http to another machine, which shows the records and headers to the network: write https://, or allow_insecure: true beside it"),
	shipped("header of our own", "{name: a, webhook: {url: https://a.example.com, headers: [{name: content-type, value: {env: A}}]}}",
		"19:91: audit.sinks[0].webhook.headers[0].name: is c1proxy's own to write: remove this header"),
	shipped("header twice", "{name: a, webhook: {url: https://a.example.com, headers: [{name: a, value: {env: A}}, {name: a, value: {env: A}}]}}",
		`19:119: audit.sinks[0].webhook.headers[1].name: "a" is the name of audit.sinks[0].webhook.headers[0] too: choose another`),
	shipped("secret in the file", "{name: a, webhook: {url: https://a.example.com, headers: [{name: a, value: password}]}}",
		"19:101: audit.sinks[0].webhook.headers[0].value: expected a mapping, found a text: write {file: PATH} or {env: NAME}: a secret itself never stands in the configuration"),
	shipped("batch", "{name: a, webhook: {url: https://a.example.com, batch_max_records: 0}}",
		"19:93: audit.sinks[0].webhook.batch_max_records: must be from 1 to 10000"),
}
