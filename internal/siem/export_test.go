package siem

import "strconv"

// Frame is a message as it goes over TCP.
func Frame(cfg SyslogConfig, m Message) []byte {
	m.severity = informational
	body := NewSyslog(cfg).append(nil, m)
	return append(append(strconv.AppendInt(nil, int64(len(body)), 10), ' '), body...)
}
