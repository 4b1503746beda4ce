package config_test

import "strings"

var fileProblems = []problemCase{
	{"empty file", documented, "", []string{
		"1:1: the file holds no configuration: see the README for one to start from",
	}},
	{"comments alone", documented, "# nothing\n\n# here\n", []string{
		"1:1: the file holds no configuration: see the README for one to start from",
	}},
	{"null document", documented, "---\n", []string{
		"1:1: the file holds no configuration: see the README for one to start from",
	}},
	{"a list", documented, "- a\n- b\n", []string{
		"1:1: expected a mapping, found a list: its keys are listen, tenants, teams, audit, admin, telemetry, issuers, redis, costs, cors, console",
	}},
	{"a text", documented, "hello\n", []string{
		"1:1: expected a mapping, found a text: its keys are listen, tenants, teams, audit, admin, telemetry, issuers, redis, costs, cors, console",
	}},
	{"byte order mark", documented, "\ufeffaudit: {dir: /a}\n", []string{
		"1:1: the file begins with a byte order mark: save it as UTF-8 without BOM",
	}},
	{"UTF-16", documented, "\xff\xfea\x00:\x00", []string{
		"1:1: the file is UTF-16: save it as UTF-8",
	}},
	{"not UTF-8", documented, "# caf\xc3\xa9\x0aaudit: {dir: \x22caf\xe9\x22}\x0a", []string{
		"2:18: this is not UTF-8: save the file as UTF-8",
	}},
	{"control character", documented, "audit: {dir: \"/a\u0007\"}\n", []string{
		"1:17: invisible character U+0007: remove it",
	}},
	{"other line break", documented, "# caf\u00e9\u2028audit: {dir: /a}\n", []string{
		"1:7: invisible character U+2028: remove it",
	}},
	{"text that turns around", documented, "teams: # \u202e }\n", []string{
		"1:10: invisible character U+202E: remove it",
	}},
	{"CR line ends", documented, "listen:\r  address: x\r", []string{
		"1:8: this line ends with CR alone: save the file with LF line ends",
	}},
	{"too large", documented, strings.Repeat("#\n", 1<<19+1), []string{
		"1:1: the file is larger than 1 MiB",
	}},
	{"second document", auditLine, "---\n" + auditLine, []string{
		`19:1: a second document begins here: a file holds one configuration, without "---" inside`,
	}},
	{"second document, empty", auditLine, auditLine + "\n---", []string{
		`20:1: a second document begins here: a file holds one configuration, without "---" inside`,
	}},
	{"second document, broken", auditLine, auditLine + "\n---\n{", []string{
		`22:1: the mapping is not closed: a "," or "}" is missing`,
	}},
}

var syntaxProblems = []problemCase{
	{"tab in the indentation", "    tenant: acme", "\ttenant: acme", []string{
		"10:1: a tab in the indentation: use spaces",
	}},
	{"unclosed quotes", "name: payments", `name: "payments`, []string{
		"9:3: the quotes opened here are not closed",
	}},
	{"unclosed list", keysLine, `api_keys: [{sha256: "` + hash + `"}`, []string{
		`13:9: the list is not closed: a "," or "]" is missing`,
	}},
	{"unclosed mapping", limitLine, "team: {rate: 50, per: 1s, burst: 100", []string{
		`17:7: the mapping is not closed: a "," or "}" is missing`,
	}},
	{"too far in", "    tenant: acme", "      tenant: acme", []string{
		`10:7: no key can stand here: check the indentation, or put a text that holds ": " in quotes`,
	}},
	{"too far out", "    tenant: acme", "   tenant: acme", []string{
		`10:4: expected another list item ("- ") in this column: check the indentation`,
	}},
	{"quote in quotes", "name: payments", "name: 'the payment's'", []string{
		"9:3: expected a key in this column: check the indentation, and the quotes before this",
	}},
	{"bracket too many", limitLine, limitLine + "}", []string{
		"17:7: expected a key in this column: check the indentation, and the quotes before this",
	}},
	{"missing colon", "tenant: acme", "tenant\n    x: y", []string{
		`10:5: expected "key: value": a colon, or the space after it, is missing`,
	}},
	{"missing space", "    tenant: acme", "    tenant:acme", []string{
		`10:5: expected "key: value": a colon, or the space after it, is missing`,
	}},
	{"missing space in a flow", limitLine, "team: {rate:50, per: 1s, burst: 100}", []string{
		`17:14: teams[0].limits.team: unknown key: a space is missing after "rate:"`,
	}},
	{"two colons", "name: payments", "name: payments: live", []string{
		`9:3: no key can stand here: check the indentation, or put a text that holds ": " in quotes`,
	}},
	{"reserved character", "name: payments", "name: @payments", []string{
		"9:3: a value cannot begin like this: put it in quotes",
	}},
	{"escape", "name: payments", `name: "pay\ments"`, []string{
		`9:3: unknown escape after "\": use single quotes, in which it has no meaning`,
	}},
	{"unknown alias", secretLine, "client_secret: *secret", []string{
		"7:7: anchors and aliases are not read: write the value out",
	}},
	{"tag that is not closed", "name: payments", "name: !<x payments", []string{
		"9:3: this is not YAML: check the quotes and the indentation from here on",
	}},
	{"alias", limitLine + "\n      caller: {rate: 10", "team: &l {rate: 50, per: 1s, burst: 100}\n      caller: *l\n    x: {rate: 10", []string{
		"17:7: teams[0].limits.team: anchors and aliases are not read: write the value out",
		"18:7: teams[0].limits.caller: anchors and aliases are not read: write the value out",
		`19:5: teams[0]: unknown key: its keys are name, tenant, callers, allow, limits, credential`,
	}},
	{"anchor", limitLine, "team: &l {rate: 50, per: 1s, burst: 100}", []string{
		"17:7: teams[0].limits.team: anchors and aliases are not read: write the value out",
	}},
	{"merge key", limitLine, "team: {<<: {rate: 50}, per: 1s, burst: 100}", []string{
		"17:14: teams[0].limits.team: merge keys are not read: write the keys out",
	}},
	{"tag", "name: payments", "name: !!str payments", []string{
		"9:11: teams[0].name: YAML tags are not read: write the value alone",
	}},
	{"tag of a mapping", limitLine, "team: !limit {rate: 50, per: 1s, burst: 100}", []string{
		"17:7: teams[0].limits.team: YAML tags are not read: write the value alone",
	}},
	{"tag of the file", listenLine, "--- !config\n" + listenLine, []string{
		"1:5: YAML tags are not read: write the value alone",
	}},
	{"anchor of the file", listenLine, "--- &a\n" + listenLine, []string{
		"1:5: anchors and aliases are not read: write the value out",
	}},
	{"anchor of a key", "    tenant: acme", "    &a tenant: acme", []string{
		"10:5: teams[0]: anchors and aliases are not read: write the value out",
	}},
	{"key that is a list", "    tenant: acme", "    ? [a, b]\n    : acme\n    tenant: acme", []string{
		"10:7: teams[0]: a key must be a plain word, found a list",
	}},
	{"deep nesting", documented, strings.Repeat("[", 20000), []string{
		"1:1: the file is nested too deeply",
	}},
}

var keyProblems = []problemCase{
	{"typo", "    tenant: acme", "    tenat: acme", []string{
		`10:5: teams[0]: unknown key "tenat": did you mean "tenant"?`,
	}},
	{"typo, swapped letters", "allow:", "alolw:", []string{
		`14:5: teams[0]: unknown key "alolw": did you mean "allow"?`,
	}},
	{"typo at the root", "listen:", "lisen:", []string{
		`1:1: unknown key "lisen": did you mean "listen"?`,
	}},
	{"camelCase", idLine, "clientId: clever-fox-42195@acme.conductor.one/spc", []string{
		`6:7: tenants[0].credential: unknown key "clientId": it is spelled client_id here`,
	}},
	{"both spellings", idLine, idLine + "\n      clientId: x", []string{
		`7:7: tenants[0].credential: unknown key "clientId": it is spelled client_id here`,
	}},
	{"duplicate key", "    tenant: acme", "    tenant: acme\n    tenant: acme", []string{
		"11:5: teams[0].tenant: given twice: the first stands in line 10",
	}},
	{"duplicate section", "admin:", listenLine + "\nadmin:", []string{
		"20:1: listen: given twice: the first stands in line 1",
	}},
	{"in the wrong place", limitLine, limitLine + "\n      rate: 5", []string{
		`18:7: teams[0].limits: unknown key "rate": it belongs in listen.failed_auth or tenants[].limit or tenants[].method_limits[].limit or teams[].limits.team or teams[].limits.caller or teams[].limits.methods[].limit`,
	}},
	{"in the wrong place, one home", urlLine, urlLine + "    access_token: x\n", []string{
		`5:5: tenants[0]: unknown key "access_token": it belongs in tenants[].credential or teams[].credential`,
	}},
	{"unknown", listenLine, `listen: {address: "127.0.0.1:8080", qqqq: 1}`, []string{
		`1:37: listen: unknown key: its keys are address, tls, max_message_bytes, reflection, max_connections, max_calls, max_connection_age, drain_delay, drain_timeout, trusted_proxies, failed_auth`,
	}},
	{"unknown and odd", listenLine, `listen: {address: "127.0.0.1:8080", "a b\n": 1}`, []string{
		"1:37: listen: unknown key: its keys are address, tls, max_message_bytes, reflection, max_connections, max_calls, max_connection_age, drain_delay, drain_timeout, trusted_proxies, failed_auth",
	}},
	{"hyphen for underscore", "key_file:", "key-file:", []string{
		`19:38: audit: unknown key "key-file": did you mean "key_file"?`,
	}},
	{"no value", urlLine, "url:\n", []string{
		"4:5: tenants[0].url: has no value: write one, or remove the key",
	}},
	{"no value, section", "    limits:\n      " + limitLine + "\n      caller: {rate: 10, per: 1s, burst: 20}", "    limits:", []string{
		"16:5: teams[0].limits: has no value: write one, or remove the key",
	}},
	{"no value, item", "      - methods:", "      -\n      - methods:", []string{
		`15:8: teams[0].allow[0]: has no value: write one, or remove the "-"`,
	}},
}

var typeProblems = []problemCase{
	{"mapping for text", "name: payments", "name: {a: b}", []string{
		"9:5: teams[0].name: expected a text, found a mapping: write a single value",
	}},
	{"list for text", "name: payments", "name: [payments]", []string{
		"9:5: teams[0].name: expected a text, found a list: write a single value",
	}},
	{"number for text", "name: payments", "name: 7", []string{
		"9:11: teams[0].name: expected a text, found a number: write it in quotes",
	}},
	{"bool for text", "name: payments", "name: true", []string{
		"9:11: teams[0].name: expected a text, found true or false: write it in quotes",
	}},
	{"empty text", "name: payments", `name: ""`, []string{
		"9:11: teams[0].name: expected a text, found nothing: write one, or remove the key",
	}},
	{"text for list", "allow:\n      - " + methodsLine, "allow: all", []string{
		`14:12: teams[0].allow: expected a list, found a text: begin each item with "- ", its keys are methods, class, include_draft, condition, require_reason, shadow, name`,
	}},
	{"mapping for list", "allow:\n      - methods", "allow:\n        methods", []string{
		`14:5: teams[0].allow: expected a list, found a mapping: begin each item with "- ", its keys are methods, class, include_draft, condition, require_reason, shadow, name`,
	}},
	{"list of texts for list of mappings", "- methods: [", "- [", []string{
		"15:9: teams[0].allow[0]: expected a mapping, found a list: its keys are methods, class, include_draft, condition, require_reason, shadow, name",
	}},
	{"text for mapping", "caller: {rate: 10, per: 1s, burst: 20}", "caller: 10/s", []string{
		"18:15: teams[0].limits.caller: expected a mapping, found a text: its keys are rate, per, burst, max_in_flight, shadow",
	}},
	{"list for mapping", limitLine, "team: [50, 1s, 100]", []string{
		"17:7: teams[0].limits.team: expected a mapping, found a list: its keys are rate, per, burst, max_in_flight, shadow",
	}},
	{"text for number", "rate: 50", `rate: "50"`, []string{
		"17:20: teams[0].limits.team.rate: expected a whole number below 2^32, found a text: write for example 50, without unit or quotes",
	}},
	{"fraction", "rate: 50", "rate: 0.5", []string{
		"17:20: teams[0].limits.team.rate: expected a whole number below 2^32, found a number: write for example 50, without unit or quotes",
	}},
	{"negative", "rate: 50", "rate: -50", []string{
		"17:20: teams[0].limits.team.rate: expected a whole number below 2^32, found a number: write for example 50, without unit or quotes",
	}},
	{"too wide", "rate: 50", "rate: 5000000000", []string{
		"17:20: teams[0].limits.team.rate: expected a whole number below 2^32, found a number: write for example 50, without unit or quotes",
	}},
	{"digits of another base", "burst: 100", "burst: 0x64", []string{
		"17:40: teams[0].limits.team.burst: expected a whole number below 2^32, found a number: write for example 50, without unit or quotes",
	}},
	{"leading zero", "burst: 100", "burst: 0100", []string{
		"17:40: teams[0].limits.team.burst: expected a whole number below 2^32, found a number: write for example 50, without unit or quotes",
	}},
	{"number for duration", "per: 1s, burst: 100", "per: 1, burst: 100", []string{
		"17:29: teams[0].limits.team.per: expected a duration with its unit, found a number: write for example 30s or 1m30s",
	}},
	{"day", "per: 1s, burst: 100", "per: 1d, burst: 100", []string{
		"17:29: teams[0].limits.team.per: expected a duration with its unit, found a text: write for example 30s or 1m30s",
	}},
	{"yes for bool", listenLine, "listen: {reflection: yes}", []string{
		"1:22: listen.reflection: expected true or false, found a text: write one of them, without quotes",
	}},
	{"quoted bool", listenLine, `listen: {reflection: "true"}`, []string{
		"1:22: listen.reflection: expected true or false, found a text: write one of them, without quotes",
	}},
}

var valueProblems = []problemCase{
	{"missing", "  - name: payments\n    tenant", "  - tenant", []string{
		"9:5: teams[0].name: is missing: write one, for example payments",
	}},
	{"missing section", auditLine + "\n", "", []string{
		"1:1: audit.dir: is missing: write one, for example /var/lib/c1proxy/audit",
	}},
	{"missing all of a tenant", documented, "tenants: [{}]\naudit: {dir: /a}\n", []string{
		"1:11: tenants[0].credential: is missing",
		"1:11: tenants[0].name: is missing: write one, for example acme",
		"1:11: tenants[0].url: is missing: write one, for example https://acme.conductor.one",
	}},
	{"missing in a limit", "rate: 50, per: 1s, ", "", []string{
		"17:7: teams[0].limits.team.per: is missing: rate, per and burst go together",
		"17:7: teams[0].limits.team.rate: is missing: rate, per and burst go together",
	}},
	{"rate of another kind", "rate: 50", "rate: fast", []string{
		"17:20: teams[0].limits.team.rate: expected a whole number below 2^32, found a text: write for example 50, without unit or quotes",
	}},
	{"a limit on nothing", "team: {rate: 50, per: 1s, burst: 100}", "team: {shadow: true}", []string{
		"17:7: teams[0].limits.team: limits nothing: write rate, per and burst, or max_in_flight",
	}},
	{"a limit on methods by the name of another", "team: {rate: 50, per: 1s, burst: 100}",
		"methods: [{name: caller, methods: [\"c1.**/*\"], limit: {max_in_flight: 5}}, {name: a, methods: [\"c1.**/*\"], limit: {rate: 1, burst: 1}}, {name: a, methods: [\"c1.**/*\"], limit: {max_in_flight: 0}}]", []string{
			"17:24: teams[0].limits.methods[0].name: \"caller\" is the name of another kind of limit: choose another",
			"17:114: teams[0].limits.methods[1].limit.per: is missing: rate, per and burst go together",
			"17:150: teams[0].limits.methods[2].name: \"a\" is the name of teams[0].limits.methods[1] too: choose another",
			"17:198: teams[0].limits.methods[2].limit.max_in_flight: must be from 1 to 1000000",
		}},
	{"a redis that cannot be reached", "admin:", "redis: {addresses: [redis, \":6379\", \"a:0\", /run/redis.sock, \"[::1]:6379\"], ca_file: /ca.pem, username: c1}\nadmin:", []string{
		"20:1: redis.replicas: is missing: write one, for example 3",
		"20:21: redis.addresses[0]: is not the address of a server: write its host and port, for example redis.example.com:6379, or the path of its socket",
		"20:28: redis.addresses[1]: is not the address of a server: write its host and port, for example redis.example.com:6379, or the path of its socket",
		"20:37: redis.addresses[2]: is not the address of a server: write its host and port, for example redis.example.com:6379, or the path of its socket",
		"20:85: redis.ca_file: is for TLS alone: remove it, or write tls: true",
		"20:104: redis.username: has no password beside it: write both, or neither",
	}},
	{"no name of the right form", "name: payments", "name: Payments!", []string{
		`9:11: teams[0].name: use lower-case letters, digits and "-", at most 63, and begin with a letter or a digit`,
	}},
	{"name too long", "name: payments", "name: aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", []string{
		`9:11: teams[0].name: use lower-case letters, digits and "-", at most 63, and begin with a letter or a digit`,
	}},
	{"rate of 0", "rate: 50", "rate: 0", []string{
		"17:20: teams[0].limits.team.rate: must be from 1 to 1000000",
	}},
	{"burst too large", "burst: 100", "burst: 1000001", []string{
		"17:40: teams[0].limits.team.burst: must be from 1 to 1000000",
	}},
	{"period too short", "per: 1s, burst: 100", "per: 1us, burst: 100", []string{
		"17:29: teams[0].limits.team.per: must be from 1ms to 24h",
	}},
	{"period negative", "per: 1s, burst: 100", "per: -1s, burst: 100", []string{
		"17:29: teams[0].limits.team.per: expected a duration with its unit, found a text: write for example 30s or 1m30s",
	}},
	{"period too long", "per: 1s, burst: 100", "per: 25h, burst: 100", []string{
		"17:29: teams[0].limits.team.per: must be from 1ms to 24h",
	}},
	{"timeout too long", urlLine, urlLine + "    timeout: 301s\n", []string{
		"5:14: tenants[0].timeout: must be from 1ms to 5m",
	}},
	{"refill too long", limitLine, "team: {rate: 1, per: 24h, burst: 366}", []string{
		"17:7: teams[0].limits.team: an empty burst would take longer than a year to fill again: lower burst or per, or raise rate",
	}},
	{"three keys", keysLine, `api_keys: [{sha256: "` + hash + `"}, {sha256: "` + hash[1:] + `1"}, {sha256: "` + hash[1:] + `2"}]`, []string{
		"13:9: teams[0].callers[0].api_keys: has more than 2 items: remove the oldest",
	}},
	{"no methods", methodsLine, "methods: []", []string{
		"15:9: teams[0].allow[0].methods: is empty: write one item, or remove what holds it",
	}},
	{"no such class", methodsLine, methodsLine + "\n        class: raed", []string{
		"16:16: teams[0].allow[0].class: must be read or write",
	}},
	{"class in other letters", methodsLine, methodsLine + "\n        class: Read", []string{
		"16:16: teams[0].allow[0].class: must be read or write",
	}},
	{"empty class", methodsLine, methodsLine + "\n        class: \"\"", []string{
		"16:16: teams[0].allow[0].class: expected a text, found nothing: write one, or remove the key",
	}},
	{"classes", methodsLine, methodsLine + "\n        class: [read, write]", []string{
		"16:9: teams[0].allow[0].class: expected a text, found a list: write a single value",
	}},
	{"class in the wrong place", "tenant: acme", "tenant: acme\n    class: read", []string{
		`11:5: teams[0]: unknown key "class": it belongs in teams[].allow[]`,
	}},
	{"yes for include_draft", methodsLine, methodsLine + "\n        include_draft: yes", []string{
		"16:24: teams[0].allow[0].include_draft: expected true or false, found a text: write one of them, without quotes",
	}},
	{"a rule's name in capitals", methodsLine, methodsLine + "\n        name: Own", []string{
		`16:15: teams[0].allow[0].name: use lower-case letters, digits and "-", at most 63, and begin with a letter`,
	}},
	{"a number for a rule's name", methodsLine, methodsLine + "\n        name: \"0\"", []string{
		`16:15: teams[0].allow[0].name: use lower-case letters, digits and "-", at most 63, and begin with a letter`,
	}},
	{"a rule's name twice", methodsLine, methodsLine + "\n        name: own\n      - name: own\n        " + methodsLine, []string{
		`17:15: teams[0].allow[1].name: "own" is the name of teams[0].allow[0] too: choose another`,
	}},
	{"a long condition", methodsLine, methodsLine + "\n        condition: \"" + strings.Repeat("a", 4097) + "\"", []string{
		"16:20: teams[0].allow[0].condition: is longer than 4096 characters",
	}},
	{"yes for shadow", methodsLine, methodsLine + "\n        shadow: yes", []string{
		"16:17: teams[0].allow[0].shadow: expected true or false, found a text: write one of them, without quotes",
	}},
	{"message limit", listenLine, "listen: {max_message_bytes: 1}", []string{
		"1:29: listen.max_message_bytes: must be from 1024 to 67108864",
	}},
	{"message limit of 0", listenLine, "listen: {max_message_bytes: 0}", []string{
		"1:29: listen.max_message_bytes: must be from 1024 to 67108864",
	}},
	{"no connection at all", listenLine, "listen: {max_connections: 0}", []string{
		"1:27: listen.max_connections: must be from 1 to 1000000",
	}},
	{"no call at all", listenLine, "listen: {max_calls: 0}", []string{
		"1:21: listen.max_calls: must be from 1 to 1000000",
	}},
	{"connections too short", listenLine, "listen: {max_connection_age: 10ms}", []string{
		"1:30: listen.max_connection_age: must be from 1s to 24h",
	}},
	{"drain out of range", listenLine, "listen: {drain_delay: 1h, drain_timeout: 0s}", []string{
		"1:23: listen.drain_delay: must be from 0s to 5m",
		"1:42: listen.drain_timeout: must be from 1ms to 10m",
	}},
	{"segment too small", auditLine, "audit: {dir: /var/lib/c1proxy/audit, key_file: /var/lib/c1proxy/audit.key, segment_bytes: 1}", []string{
		"19:91: audit.segment_bytes: must be from 65536 to 17179869184",
	}},
	{"origin", auditLine, `audit: {dir: /var/lib/c1proxy/audit, key_file: /var/lib/c1proxy/audit.key, origin: "my log"}`, []string{
		`19:84: audit.origin: use printable ASCII without blanks and "+", at most 255`,
	}},
	{"half of a certificate", listenLine, "listen: {tls: {cert_file: tls.crt}}", []string{
		"1:10: listen.tls.key_file: is missing: write one, for example /etc/c1proxy/tls.key",
	}},
}

var addressProblems = []problemCase{
	{"no port", listenLine, "listen: {address: 127.0.0.1}", []string{
		"1:19: listen.address: is not an address: write a host and a port, for example 127.0.0.1:8080",
	}},
	{"port out of range", listenLine, `listen: {address: "127.0.0.1:65536"}`, []string{
		"1:19: listen.address: is not an address: write a host and a port, for example 127.0.0.1:8080",
	}},
	{"named port", listenLine, `listen: {address: "127.0.0.1:http"}`, []string{
		"1:19: listen.address: is not an address: write a host and a port, for example 127.0.0.1:8080",
	}},
	{"url for an address", listenLine, `listen: {address: "http://127.0.0.1:8080"}`, []string{
		"1:19: listen.address: is not an address: write a host and a port, for example 127.0.0.1:8080",
	}},
	{"number for a host", listenLine, `listen: {address: "127.1:8080"}`, []string{
		"1:19: listen.address: is not an address: write a host and a port, for example 127.0.0.1:8080",
	}},
	{"one door", listenLine, `listen: {address: "127.0.0.1:9090"}`, []string{
		"20:18: admin.address: is listen.address too: callers and operators need doors of their own",
	}},
}

var tenantProblems = []problemCase{
	{"none", tenantsPart, "", []string{
		"1:1: tenants: no tenant: write one here (name, url, credential), or set CONDUCTORONE_CLIENT_ID and CONDUCTORONE_CLIENT_SECRET in the environment",
	}},
	{"name given twice", tenantsPart, tenantsPart + strings.TrimPrefix(tenantsPart, "tenants:\n"), []string{
		`8:11: tenants[1].name: "acme" is the name of tenants[0] too: choose another`,
	}},
	{"plain http", "url: https://", "url: http://", []string{
		"4:10: tenants[0].url: is plain http, which shows tokens to the network: write https:// (http is only for tests and the sandbox, written in the configuration with allow_insecure: true)",
	}},
	{"other scheme", "url: https://", "url: ftp://", []string{
		"4:10: tenants[0].url: is not an https URL: write https:// and the tenant's host, for example https://acme.conductor.one",
	}},
	{"no scheme", "url: https://", "url: ", []string{
		"4:10: tenants[0].url: is not the URL of a tenant: write https:// and the tenant's host, for example https://acme.conductor.one",
	}},
	{"user and password", "url: https://", "url: https://user:password@", []string{
		"4:10: tenants[0].url: holds a user or a password: remove it, what c1proxy proves itself with stands in credential",
	}},
	{"path", urlLine, "url: https://acme.conductor.one/api/v1\n", []string{
		"4:10: tenants[0].url: has a path: remove all that follows the host, also a / at the end",
	}},
	{"slash at the end", urlLine, "url: https://acme.conductor.one/\n", []string{
		"4:10: tenants[0].url: has a path: remove all that follows the host, also a / at the end",
	}},
	{"query", urlLine, "url: https://acme.conductor.one?a=b\n", []string{
		"4:10: tenants[0].url: has a query or a fragment: remove all that follows the host",
	}},
	{"question mark", urlLine, "url: https://acme.conductor.one?\n", []string{
		"4:10: tenants[0].url: has a query or a fragment: remove all that follows the host",
	}},
	{"fragment", urlLine, "url: https://acme.conductor.one#a\n", []string{
		"4:10: tenants[0].url: has a query or a fragment: remove all that follows the host",
	}},
	{"fragment, empty", urlLine, "url: \"https://acme.conductor.one#\"\n", []string{
		"4:10: tenants[0].url: has a query or a fragment: remove all that follows the host",
	}},
	{"port", urlLine, "url: https://acme.conductor.one:443\n", []string{
		"4:10: tenants[0].url: has a port: remove it (a port is only for tests and the sandbox, written in the configuration with allow_insecure: true)",
	}},
	{"colon without port", urlLine, "url: \"https://acme.conductor.one:\"\n", []string{
		"4:10: tenants[0].url: has no valid port",
	}},
	{"port 0", urlLine, "url: https://acme.conductor.one:0\n", []string{
		"4:10: tenants[0].url: has no valid port",
	}},
	{"IPv4", urlLine, "url: https://192.0.2.1\n", []string{
		"4:10: tenants[0].url: is an IP address: write the tenant's host (an address is only for tests and the sandbox, written in the configuration with allow_insecure: true)",
	}},
	{"IPv6", urlLine, "url: \"https://[2001:db8::1]\"\n", []string{
		"4:10: tenants[0].url: is an IP address: write the tenant's host (an address is only for tests and the sandbox, written in the configuration with allow_insecure: true)",
	}},
	{"IPv4 in disguise", urlLine, "url: https://127.1\n", []string{
		"4:10: tenants[0].url: has no valid host: write https:// and the tenant's host, for example https://acme.conductor.one",
	}},
	{"bare name", urlLine, "url: https://acme\n", []string{
		"4:10: tenants[0].url: is a bare name: write the tenant's whole host (a bare name is only for tests and the sandbox, written in the configuration with allow_insecure: true)",
	}},
	{"name with underscore", urlLine, "url: https://ac_me.conductor.one\n", []string{
		"4:10: tenants[0].url: has no valid host: write https:// and the tenant's host, for example https://acme.conductor.one",
	}},
	{"capitals", urlLine, "url: https://Acme.conductor.one\n", []string{
		"4:10: tenants[0].url: has capitals in its host: write it in lower case",
	}},
	{"dot at the end", urlLine, "url: https://acme.conductor.one.\n", []string{
		"4:10: tenants[0].url: has no valid host: write https:// and the tenant's host, for example https://acme.conductor.one",
	}},
	{"two slashes missing", urlLine, "url: https:acme.conductor.one\n", []string{
		"4:10: tenants[0].url: is not the URL of a tenant: write https:// and the tenant's host, for example https://acme.conductor.one",
	}},
	{"blank in the host", urlLine, "url: \"https://acme conductor.one\"\n", []string{
		"4:10: tenants[0].url: is not the URL of a tenant: write https:// and the tenant's host, for example https://acme.conductor.one",
	}},
	{"path, although insecure", urlLine, "url: http://127.0.0.1:8081/x\n    allow_insecure: true\n", []string{
		"4:10: tenants[0].url: has a path: remove all that follows the host, also a / at the end",
	}},
	{"user, although insecure", urlLine, "url: http://a@127.0.0.1:8081\n    allow_insecure: true\n", []string{
		"4:10: tenants[0].url: holds a user or a password: remove it, what c1proxy proves itself with stands in credential",
	}},
	{"itself", urlLine, "url: http://localhost:8080\n    allow_insecure: true\n", []string{
		"4:10: tenants[0].url: is the address that c1proxy itself listens on: write https:// and the tenant's host, for example https://acme.conductor.one",
	}},
	{"itself, the other door", urlLine, "url: http://127.0.0.1:9090\n    allow_insecure: true\n", []string{
		"4:10: tenants[0].url: is the address that c1proxy itself listens on: write https:// and the tenant's host, for example https://acme.conductor.one",
	}},
}

var credentialProblems = []problemCase{
	{"other host", idLine, "client_id: clever-fox-42195@other.conductor.one/spc", []string{
		"6:18: tenants[0].credential.client_id: belongs to other.conductor.one, but the tenant's url names acme.conductor.one: write a client id of this tenant, or its url",
	}},
	{"host with a port", idLine, "client_id: clever-fox-42195@acme.conductor.one:8443/spc", []string{
		"6:18: tenants[0].credential.client_id: belongs to acme.conductor.one:8443, but the tenant's url names acme.conductor.one: write a client id of this tenant, or its url",
	}},
	{"other host, although insecure", urlLine, "url: http://c1.test:8081\n    allow_insecure: true\n", []string{
		"7:18: tenants[0].credential.client_id: belongs to acme.conductor.one, but the tenant's url names c1.test: write a client id of this tenant, or its url",
	}},
	{"other host, although loopback", urlLine, "url: http://127.0.0.1:8081\n    allow_insecure: true\n", []string{
		"7:18: tenants[0].credential.client_id: belongs to acme.conductor.one, but the tenant's url names 127.0.0.1: write a client id of this tenant, or its url",
	}},
	{"no client id", idLine + "\n      ", "", []string{
		"5:5: tenants[0].credential.client_id: is missing: write it as C1 gave it out, for example clever-fox-42195@acme.conductor.one/spc",
	}},
	{"not a client id", idLine, "client_id: acme", []string{
		"6:18: tenants[0].credential.client_id: is not a client id: write it as C1 gave it out, for example clever-fox-42195@acme.conductor.one/spc",
	}},
	{"client id without use", idLine, "client_id: clever-fox-42195@acme.conductor.one", []string{
		"6:18: tenants[0].credential.client_id: is not a client id: write it as C1 gave it out, for example clever-fox-42195@acme.conductor.one/spc",
	}},
	{"client id with no valid host", idLine, "client_id: clever-fox-42195@a_b/spc", []string{
		"6:18: tenants[0].credential.client_id: is not a client id: write it as C1 gave it out, for example clever-fox-42195@acme.conductor.one/spc",
	}},
	{"no secret", "\n      " + secretLine, "", []string{
		"5:5: tenants[0].credential: has none of client_secret, subject_token, access_token: write one",
	}},
	{"two forms", secretLine, secretLine + "\n      access_token: {env: TOKEN}", []string{
		"5:5: tenants[0].credential: has more than one of client_secret, subject_token, access_token: keep one",
	}},
	{"secret in place", secretLine, "client_secret: secret-token:conductorone.com:v1:abc", []string{
		"7:22: tenants[0].credential.client_secret: expected a mapping, found a text: write {file: PATH} or {env: NAME}: a secret itself never stands in the configuration",
	}},
	{"secret under a key", secretLine, "client_secret: {value: abc}", []string{
		"7:23: tenants[0].credential.client_secret: unknown key: write {file: PATH} or {env: NAME}: a secret itself never stands in the configuration",
	}},
	{"secret as a key", secretLine, "client_secret: {abc}", []string{
		"7:23: tenants[0].credential.client_secret: unknown key: write {file: PATH} or {env: NAME}: a secret itself never stands in the configuration",
	}},
	{"secret in a list", secretLine, "client_secret: [abc]", []string{
		"7:7: tenants[0].credential.client_secret: expected a mapping, found a list: write {file: PATH} or {env: NAME}: a secret itself never stands in the configuration",
	}},
	{"secret without a space", secretLine, "client_secret:abc", []string{
		`7:7: expected "key: value": a colon, or the space after it, is missing`,
	}},
	{"secret for a file", secretLine, "client_secret: {file: abc}", []string{
		"7:29: tenants[0].credential.client_secret.file: write the path of a file, from / or ./: a secret itself never stands in the configuration",
	}},
	{"secret for a variable", secretLine, "client_secret: {env: abc}", []string{
		"7:28: tenants[0].credential.client_secret.env: write the name of an environment variable, in capitals: a secret itself never stands in the configuration",
	}},
	{"file and variable", secretLine, "client_secret: {file: /abc, env: ABC}", []string{
		"7:7: tenants[0].credential.client_secret: has more than one of file, env: keep one",
	}},
	{"neither file nor variable", secretLine, "client_secret: {}", []string{
		"7:7: tenants[0].credential.client_secret: has none of file, env: write one",
	}},
	{"client id beside a token", secretLine, "access_token: {env: TOKEN}", []string{
		"6:18: tenants[0].credential.client_id: has no use beside access_token: remove one of them",
	}},
}

var overlapProblems = []problemCase{
	{"resend as text", urlLine, urlLine + "    resend_on_401: never\n", []string{
		"5:20: tenants[0].resend_on_401: expected true or false, found a text: write one of them, without quotes",
	}},
	{"dpop as text", secretLine, secretLine + "\n      dpop: ES256", []string{
		"8:13: tenants[0].credential.dpop: expected true or false, found a text: write one of them, without quotes",
	}},
	{"dpop in another place", urlLine, urlLine + "    dpop: true\n", []string{
		`5:5: tenants[0]: unknown key "dpop": it belongs in tenants[].credential or tenants[].credential.next or teams[].credential or teams[].credential.next`,
	}},
	{"dpop beside an access token", idLine + "\n      " + secretLine, "dpop: true\n      access_token: {env: X}", []string{
		"6:13: tenants[0].credential.dpop: has no use beside access_token, which is bound to no key of c1proxy's: remove one of them",
	}},
	{"next beside an access token", idLine + "\n      " + secretLine, "access_token: {env: X}\n      next: {client_id: a@acme.conductor.one/spc, client_secret: {env: Y}}", []string{
		"7:7: tenants[0].credential.next: has no use beside access_token: write what it holds in place of access_token",
	}},
	{"next without a secret", secretLine, secretLine + "\n      next: {client_id: a@acme.conductor.one/spc}", []string{
		"8:7: tenants[0].credential.next: has none of client_secret, subject_token: write one",
	}},
	{"next with two secrets", secretLine, secretLine + "\n      next: {client_id: a@acme.conductor.one/spc, client_secret: {env: X}, subject_token: {env: X}}", []string{
		"8:7: tenants[0].credential.next: has more than one of client_secret, subject_token: keep one",
	}},
	{"next without an id", secretLine, secretLine + "\n      next: {client_secret: {env: X}}", []string{
		"8:7: tenants[0].credential.next.client_id: is missing: write it as C1 gave it out, for example clever-fox-42195@acme.conductor.one/spc",
	}},
	{"next of another tenant", secretLine, secretLine + "\n      next: {client_id: a@other.conductor.one/spc, client_secret: {env: X}}", []string{
		"8:25: tenants[0].credential.next.client_id: belongs to other.conductor.one, but the tenant's url names acme.conductor.one: write a client id of this tenant, or its url",
	}},
	{"next is the old one", secretLine, secretLine + "\n      next: {client_id: clever-fox-42195@acme.conductor.one/spc, client_secret: {env: X}}", []string{
		"8:25: tenants[0].credential.next.client_id: is the client_id of the old credential: C1 gives each credential one of its own (a new secret of the same id belongs in the old one's file)",
	}},
	{"next after next", secretLine, secretLine + "\n      next: {client_id: a@acme.conductor.one/spc, client_secret: {env: X}, next: {}}", []string{
		`8:76: tenants[0].credential.next: unknown key "next": it belongs in tenants[].credential or teams[].credential`,
	}},
	{"secret of next in the file", secretLine, secretLine + "\n      next: {client_id: a@acme.conductor.one/spc, client_secret: " + canary + "}", []string{
		"8:66: tenants[0].credential.next.client_secret: expected a mapping, found a text: write {file: PATH} or {env: NAME}: a secret itself never stands in the configuration",
	}},
}

var teamProblems = []problemCase{
	{"team's credential of another tenant", "tenant: acme", "tenant: acme\n    credential: {client_id: fox@other.conductor.one/spc, client_secret: {env: OWN}}", []string{
		`11:29: teams[0].credential.client_id: belongs to other.conductor.one, but the tenant's url names acme.conductor.one: write a client id of this tenant, or its url`,
	}},
	{"team's next of another tenant", "tenant: acme", "tenant: acme\n    credential: {client_id: fox@acme.conductor.one/spc, client_secret: {env: OWN}, next: {client_id: fox@other.conductor.one/spc, client_secret: {env: OWN}}}", []string{
		`11:102: teams[0].credential.next.client_id: belongs to other.conductor.one, but the tenant's url names acme.conductor.one: write a client id of this tenant, or its url`,
	}},
	{"team's credential without a secret", "tenant: acme", "tenant: acme\n    credential: {client_id: fox@acme.conductor.one/spc}", []string{
		`11:5: teams[0].credential: has none of client_secret, subject_token, access_token: write one`,
	}},
	{"unknown tenant", "tenant: acme", "tenant: acmee", []string{
		`10:13: teams[0].tenant: no tenant is named "acmee": did you mean "acme"?`,
	}},
	{"tenant that could not be read", "  - name: acme", "  - nam: acme", []string{
		`3:5: tenants[0]: unknown key "nam": did you mean "name"?`,
	}},
	{"unknown tenant, none near", "tenant: acme", "tenant: production", []string{
		`10:13: teams[0].tenant: no tenant is named "production": the tenants are acme`,
	}},
	{"team given twice", "    limits:\n", "  - {name: payments, tenant: acme}\n  - name: third\n    tenant: acme\n    limits:\n", []string{
		`16:12: teams[1].name: "payments" is the name of teams[0] too: choose another`,
	}},
	{"caller given twice", keysLine, keysLine + "\n      - name: sync-bot", []string{
		`14:15: teams[0].callers[1].name: "sync-bot" is the name of teams[0].callers[0] too: choose another`,
	}},
	{"key given twice", keysLine, keysLine + "\n      - name: other\n        " + keysLine, []string{
		"15:29: teams[0].callers[1].api_keys[0].sha256: is the same key as teams[0].callers[0].api_keys[0]: make each one a key of its own",
	}},
	{"key given twice, in other letters", keysLine, keysLine + "\n      - name: other\n        api_keys: [{sha256: " + strings.ToLower(hash) + "}]", []string{
		"15:29: teams[0].callers[1].api_keys[0].sha256: is the same key as teams[0].callers[0].api_keys[0]: make each one a key of its own",
	}},
	{"key itself", hash, "c1p_abcdefgh", []string{
		`13:29: teams[0].callers[0].api_keys[0].sha256: write the 64 hex digits that "proxy key new" prints: a key itself never stands in the configuration, and one that did is to be replaced`,
	}},
	{"key in place", keysLine, "api_keys: [c1p_abcdefgh]", []string{
		`13:20: teams[0].callers[0].api_keys[0]: expected a mapping, found a text: write {sha256: HASH}, as "proxy key new" prints it: a key itself never stands in the configuration`,
	}},
	{"key in place of the list", keysLine, "api_keys: c1p_abcdefgh", []string{
		`13:19: teams[0].callers[0].api_keys: expected a list, found a text: begin each item with "- ", write {sha256: HASH}, as "proxy key new" prints it: a key itself never stands in the configuration`,
	}},
	{"key under another key", keysLine, "api_keys: [{key: c1p_abcdefgh}]", []string{
		"13:20: teams[0].callers[0].api_keys[0].sha256: is missing",
		`13:21: teams[0].callers[0].api_keys[0]: unknown key: write {sha256: HASH}, as "proxy key new" prints it: a key itself never stands in the configuration`,
	}},
	{"hash too short", hash, "0123456789abcdef", []string{
		`13:29: teams[0].callers[0].api_keys[0].sha256: write the 64 hex digits that "proxy key new" prints: a key itself never stands in the configuration, and one that did is to be replaced`,
	}},
}

var auditProblems = []problemCase{
	{"nothing limits what is kept", auditLine, "audit: {dir: /a/b, retain: {archive_dir: /c}}", []string{
		"19:20: audit.retain: has neither age nor bytes, so that nothing would ever be removed",
	}},
	{"archive inside", auditLine, "audit: {dir: /a/b, retain: {age: 24h, archive_dir: /a/b/c}}", []string{
		"19:52: audit.retain.archive_dir: lies inside audit.dir: what is archived would be taken for a part of the log",
	}},
	{"key inside", auditLine, "audit: {dir: /a/b, key_file: /a/b/c/key}", []string{
		"19:30: audit.key_file: lies inside audit.dir: keep it elsewhere, so that whoever can change the log cannot sign it",
	}},
	{"key inside, by another way", auditLine, "audit: {dir: /a/b/, key_file: /a/../a/b/./key}", []string{
		"19:31: audit.key_file: lies inside audit.dir: keep it elsewhere, so that whoever can change the log cannot sign it",
	}},
	{"key inside, with dots in its name", auditLine, "audit: {dir: /a/b, key_file: /a/b/..key}", []string{
		"19:30: audit.key_file: lies inside audit.dir: keep it elsewhere, so that whoever can change the log cannot sign it",
	}},
	{"key is the directory", auditLine, "audit: {dir: /a/b, key_file: /a/b}", []string{
		"19:30: audit.key_file: lies inside audit.dir: keep it elsewhere, so that whoever can change the log cannot sign it",
	}},
	{"directory without a name", auditLine, "audit: {dir: /}", []string{
		"19:1: audit.key_file: is missing: audit.dir has no name to make a default of",
	}},
	{"no directory", auditLine, "audit: {key_file: /a}", []string{
		"19:1: audit.dir: is missing: write one, for example /var/lib/c1proxy/audit",
	}},
}

var manyProblems = []problemCase{
	{"everything at once", documented, "listn: {}\nlisten: {address: 7}\ntenants:\n- name: acme\n  url: http://acme.conductor.one\n  credential: {client_id: x, client_secret: {fil: /a}}\nteams:\n- name: A\n  tenant: b\n  limits: {team: {rate: 0, per: 1s, burst: 1}}\naudit: {}\n", []string{
		`1:1: unknown key "listn": did you mean "listen"?`,
		"2:19: listen.address: expected a text, found a number: write it in quotes",
		"5:8: tenants[0].url: is plain http, which shows tokens to the network: write https:// (http is only for tests and the sandbox, written in the configuration with allow_insecure: true)",
		`6:46: tenants[0].credential.client_secret: unknown key "fil": did you mean "file"?`,
		`8:9: teams[0].name: use lower-case letters, digits and "-", at most 63, and begin with a letter or a digit`,
		`9:11: teams[0].tenant: no tenant is named "b": the tenants are acme`,
		"10:25: teams[0].limits.team.rate: must be from 1 to 1000000",
		"11:1: audit.dir: is missing: write one, for example /var/lib/c1proxy/audit",
	}},
}

// tracesLine stands where admin's line does, as line 20.
const tracesLine = "telemetry: {traces: {endpoint: https://otel.example.com"

var tracesProblems = []problemCase{
	traced("no endpoint", "telemetry: {traces: {sample_ratio: 1}}",
		"20:13: telemetry.traces.endpoint: is missing: write one, for example https://otel-collector.example.com:4318"),
	traced("no URL", "telemetry: {traces: {endpoint: collector}}",
		"20:32: telemetry.traces.endpoint: is not the URL of a collector: write https:// and the collector's host, for example https://otel-collector.example.com:4318"),
	traced("gRPC", "telemetry: {traces: {endpoint: grpc://collector:4317}}",
		"20:32: telemetry.traces.endpoint: is not an http or https URL: write https:// and the collector's host, for example https://otel-collector.example.com:4318 (OTLP over gRPC, port 4317, is not spoken)"),
	traced("password", "telemetry: {traces: {endpoint: https://user:password@otel.example.com}}",
		"20:32: telemetry.traces.endpoint: holds a user or a password: remove it, and write a header named authorization"),
	traced("key in the query", "telemetry: {traces: {endpoint: \"https://otel.example.com?key=password\"}}",
		"20:32: telemetry.traces.endpoint: has a query or a fragment: remove it"),
	traced("whole path", tracesLine+"/v1/traces}}",
		"20:32: telemetry.traces.endpoint: ends with /v1/traces: remove that, c1proxy adds it"),
	traced("plain http", "telemetry: {traces: {endpoint: http://otel.example.com}}",
		"20:32: telemetry.traces.endpoint: is plain http to another machine, which shows the headers to the network: write https://, or allow_insecure: true beside it"),
	traced("no port", "telemetry: {traces: {endpoint: \"https://otel.example.com:0\"}}", "20:32: telemetry.traces.endpoint: has no valid port"),
	traced("no host", "telemetry: {traces: {endpoint: https://127.1}}",
		"20:32: telemetry.traces.endpoint: has no valid host: write https:// and the collector's host, for example https://otel-collector.example.com:4318"),
	traced("ratio above 1", tracesLine+", sample_ratio: 1.5}}", "20:72: telemetry.traces.sample_ratio: must be from 0 to 1"),
	traced("ratio in percent", tracesLine+", sample_ratio: 10%}}",
		"20:72: telemetry.traces.sample_ratio: expected a number, found a text: write for example 0.25, without quotes"),
	traced("ratio with an exponent", tracesLine+", sample_ratio: 1e-3}}",
		"20:72: telemetry.traces.sample_ratio: expected a number, found a number: write for example 0.25, without quotes"),
	traced("name of a service", tracesLine+", service_name: my proxy}}",
		`20:72: telemetry.traces.service_name: use letters, digits, ".", "_" and "-", at most 63, and begin with a letter or a digit`),
	traced("header with its value", tracesLine+", headers: [{name: authorization, value: password}]}}",
		"20:97: telemetry.traces.headers[0].value: expected a mapping, found a text: write {file: PATH} or {env: NAME}: a secret itself never stands in the configuration"),
	traced("header without value", tracesLine+", headers: [{name: authorization}]}}", "20:68: telemetry.traces.headers[0].value: is missing"),
	traced("header given twice", tracesLine+", headers: [{name: a, value: {env: A}}, {name: a, value: {env: B}}]}}",
		`20:103: telemetry.traces.headers[1].name: "a" is the name of telemetry.traces.headers[0] too: choose another`),
	traced("header that is there", tracesLine+", headers: [{name: content-type, value: {env: A}}]}}",
		"20:75: telemetry.traces.headers[0].name: is c1proxy's own to write: remove this header"),
	traced("header in capitals", tracesLine+", headers: [{name: Authorization, value: {env: A}}]}}",
		`20:75: telemetry.traces.headers[0].name: use lower-case letters, digits and "-", at most 63, and begin with a letter or a digit`),
}

// traced is a case whose line 20 is the given one.
func traced(name, line string, want ...string) problemCase {
	return problemCase{name, `admin: {address: "127.0.0.1:9090"}`, line, want}
}
