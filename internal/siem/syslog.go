package siem

import (
	"bytes"
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/c1proxy/c1proxy/internal/fault"
)

const (
	// syslogTimeout bounds a connection and the handshake, and each write.
	syslogTimeout = 10 * time.Second
	// settleTime is how long after its last byte a stream must live for its
	// messages to count as delivered.
	settleTime = 250 * time.Millisecond
	// syslogBatch is how many messages are written before that.
	syslogBatch = 4096
	// writeBytes is how much of a stream is written at once.
	writeBytes = 64 << 10
	// againTime and againBytes bound what is written again to a new connection.
	againTime, againBytes = 30 * time.Second, 8 << 20
)

// Facilities are those of RFC 5424, section 6.2.1, that can be chosen.
var Facilities = map[string]int{"user": 1, "daemon": 3, "auth": 4, "authpriv": 10, "audit": 13,
	"local0": 16, "local1": 17, "local2": 18, "local3": 19, "local4": 20, "local5": 21, "local6": 22, "local7": 23}

// A Protocol is how syslog messages travel.
type Protocol string

// The protocols.
const (
	UDP Protocol = "udp" // RFC 5426, one message a datagram
	TCP Protocol = "tcp" // RFC 6587, octet counting
	TLS Protocol = "tls" // RFC 5425
)

// A SyslogConfig says where a syslog server is.
type SyslogConfig struct {
	// Address is HOST:PORT.
	Address  string
	Protocol Protocol
	// CAFile is a PEM file with the authorities that may vouch for the server, in
	// place of the system's; "" for these. It is read for each connection.
	CAFile string
	// Facility is one of Facilities' numbers.
	Facility int
	// Host is this machine's name; "" if it is not known.
	Host string
}

// A Syslog ships messages to a syslog server (RFC 5424).
//
// Syslog has no answers. Over UDP a message is delivered when it was sent. Over
// TCP and TLS a batch is delivered when the connection still lives a quarter of a
// second after its last byte, and otherwise written again as a whole. Nobody can
// tell then what the server's system had taken and the server itself has not
// read: so a new connection begins with what the lost one carried in its last 30
// seconds, 8 MiB at most, and only a server that hung for longer, or whose end
// this process does not live to see, loses any.
type Syslog struct {
	cfg    SyslogConfig
	conn   net.Conn
	broken chan struct{} // closed when the peer has left conn
	buf    []byte
	frame  []byte
	// sent are the batches that conn, or the one before it, has carried of late.
	sent []sentBatch
	// lost: they are to be written again.
	lost bool
}

// A sentBatch is what was written at one time.
type sentBatch struct {
	at   time.Time
	data []byte
}

// NewSyslog returns a Syslog that is not connected yet.
func NewSyslog(cfg SyslogConfig) *Syslog {
	cfg.Host = cmp.Or(headerText(cfg.Host, 255), "-")
	return &Syslog{cfg: cfg}
}

// Most implements [Receiver].
func (s *Syslog) Most() int { return syslogBatch }

// Close implements [Receiver].
func (s *Syslog) Close() {
	if s.conn != nil {
		_ = s.conn.Close()
		s.conn, s.lost = nil, true
	}
}

// Deliver implements [Receiver].
func (s *Syslog) Deliver(ctx context.Context, messages []Message) error {
	err := s.connect(ctx)
	if err == nil {
		stop := context.AfterFunc(ctx, func() { _ = s.conn.SetDeadline(time.Unix(1, 0)) })
		err = s.write(ctx, messages)
		stop()
	}
	if err != nil {
		s.Close()
		return fmt.Errorf("syslog server %s: %w", s.cfg.Address, speakable(err))
	}
	return nil
}

// speakable is [fault.Speakable], but for errors of our own.
func speakable(err error) error {
	var own *ownError
	if errors.As(err, &own) {
		return own
	}
	return fault.Speakable(err)
}

// An ownError is in words of our own, with what a system call said at most.
type ownError struct{ text string }

func (e *ownError) Error() string { return e.text }

// connect connects if there is no connection, or the peer has left it.
func (s *Syslog) connect(ctx context.Context) error {
	if s.conn != nil {
		select {
		case <-s.broken:
			s.Close()
		default:
			return nil
		}
	}
	dialer := &net.Dialer{Timeout: syslogTimeout}
	var err error
	switch s.cfg.Protocol {
	case UDP:
		s.conn, err = dialer.DialContext(ctx, "udp", s.cfg.Address)
	case TCP:
		s.conn, err = dialer.DialContext(ctx, "tcp", s.cfg.Address)
	default:
		s.conn, err = s.dialTLS(ctx, dialer)
	}
	if err != nil {
		s.conn = nil // not a nil pointer in an interface
		return err
	}
	s.broken = make(chan struct{})
	if s.cfg.Protocol != UDP {
		go watch(s.conn, s.broken)
	}
	return nil
}

func (s *Syslog) dialTLS(ctx context.Context, dialer *net.Dialer) (net.Conn, error) {
	config := &tls.Config{MinVersion: tls.VersionTLS12}
	if s.cfg.CAFile != "" {
		data, err := os.ReadFile(s.cfg.CAFile)
		if err != nil {
			return nil, &ownError{"read ca_file: " + err.Error()}
		}
		config.RootCAs = x509.NewCertPool()
		if !config.RootCAs.AppendCertsFromPEM(data) {
			return nil, &ownError{fmt.Sprintf("read ca_file: %s holds no certificate in PEM", s.cfg.CAFile)}
		}
	}
	ctx, cancel := context.WithTimeout(ctx, syslogTimeout)
	defer cancel()
	return (&tls.Dialer{NetDialer: dialer, Config: config}).DialContext(ctx, "tcp", s.cfg.Address)
}

// watch reads what no syslog server writes, to see it leave.
func watch(conn net.Conn, broken chan struct{}) {
	defer close(broken)
	for buf := make([]byte, 512); ; {
		if _, err := conn.Read(buf); err != nil {
			return
		}
	}
}

// write writes the messages, each in a datagram or all in the stream.
func (s *Syslog) write(ctx context.Context, messages []Message) error {
	s.buf = s.buf[:0]
	for _, m := range messages {
		s.frame = s.append(s.frame[:0], m)
		if s.cfg.Protocol == UDP {
			if err := s.flush(s.frame); err != nil {
				return err
			}
			continue
		}
		s.buf = append(append(strconv.AppendInt(s.buf, int64(len(s.frame)), 10), ' '), s.frame...)
	}
	if s.cfg.Protocol == UDP {
		return nil
	}
	return s.stream(ctx)
}

// stream writes the buffer, and before it what a lost connection may not have
// brought, and waits for what the peer does.
func (s *Syslog) stream(ctx context.Context) error {
	s.forget()
	if s.lost {
		for _, b := range s.sent {
			if err := s.flush(b.data); err != nil {
				return err
			}
		}
	}
	if err := s.flush(s.buf); err != nil {
		return err
	}
	settle := time.NewTimer(settleTime)
	defer settle.Stop()
	select {
	case <-settle.C:
	case <-s.broken:
		return &ownError{"it closed the connection"}
	case <-ctx.Done():
		return ctx.Err()
	}
	s.lost = false
	s.sent = append(s.sent, sentBatch{time.Now(), bytes.Clone(s.buf)})
	return nil
}

// forget drops the batches that are too old, or too many, to be written again.
// Those of a connection that was lost are of any age: it may have been lost long
// ago.
func (s *Syslog) forget() {
	total := 0
	for i := len(s.sent) - 1; i >= 0; i-- {
		total += len(s.sent[i].data)
		if total > againBytes || !s.lost && time.Since(s.sent[i].at) > againTime {
			s.sent = slices.Delete(s.sent, 0, i+1)
			return
		}
	}
}

// flush writes all of b: a datagram, or a part of the stream, each piece of which
// must be taken in time.
func (s *Syslog) flush(b []byte) error {
	if s.cfg.Protocol == UDP {
		_, err := s.conn.Write(b)
		return err
	}
	for part := range slices.Chunk(b, writeBytes) {
		_ = s.conn.SetWriteDeadline(time.Now().Add(syslogTimeout)) // a closed connection: Write says so
		if _, err := s.conn.Write(part); err != nil {
			return err
		}
	}
	return nil
}

// append appends a message as of RFC 5424: <PRI>1 TIME HOST c1proxy - KIND - and
// the record. It has no structured data: what there is to say is in the record.
// Nor has it the byte order mark, which no reader of JSON expects.
func (s *Syslog) append(b []byte, m Message) []byte {
	b = append(strconv.AppendInt(append(b, '<'), int64(s.cfg.Facility*8+syslogSeverity[m.severity]), 10), ">1 "...)
	b = m.Time.UTC().AppendFormat(b, "2006-01-02T15:04:05.000000Z")
	b = append(append(b, ' '), s.cfg.Host...)
	b = append(append(b, " "+product+" - "...), cmp.Or(headerText(string(m.Kind), 32), "-")...)
	return append(append(b, " - "...), m.Body...)
}

// syslogSeverity has RFC 5424's severities: 6 is informational, 2 critical.
var syslogSeverity = map[severity]int{informational: 6, low: 5, medium: 4, high: 3, critical: 2}

// headerText keeps what may stand in a header field of RFC 5424: at most n
// characters of visible ASCII.
func headerText(text string, n int) string {
	text = strings.Map(func(r rune) rune {
		if r <= ' ' || r > '~' {
			return -1
		}
		return r
	}, text)
	return text[:min(len(text), n)]
}
