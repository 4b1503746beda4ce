package siem

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"time"

	"github.com/c1proxy/c1proxy/internal/fault"
)

const (
	// webhookTimeout bounds one request, its answer included.
	webhookTimeout = 30 * time.Second
	// maxAnswer is how much of an answer is read, so that its connection can be
	// used again.
	maxAnswer = 64 << 10
)

// A WebhookConfig says where a webhook is.
type WebhookConfig struct {
	URL *url.URL
	// Header returns the header fields of a request, secrets among them. It is
	// called for each; its errors are logged, and so must not hold what it
	// returns. Nil means none.
	Header func() (http.Header, error)
	// Array sends a JSON array in place of JSON lines.
	Array bool
	// Batch bounds the records of one request.
	Batch int
	// Transport makes the requests. It must follow no redirect and bound the
	// answer's header.
	Transport http.RoundTripper
	// Version is told in the User-Agent header.
	Version string
}

// A Webhook ships messages by HTTP POST, and takes any 2xx for their arrival.
// 408, 429 and 5xx, and an answer that does not come, mean to try again soon, and
// any other status that someone must change something.
type Webhook struct{ cfg WebhookConfig }

// NewWebhook returns a Webhook. It makes no connection yet.
func NewWebhook(cfg WebhookConfig) *Webhook { return &Webhook{cfg} }

// Most implements [Receiver].
func (w *Webhook) Most() int { return w.cfg.Batch }

// Close implements [Receiver].
func (w *Webhook) Close() {
	if t, ok := w.cfg.Transport.(interface{ CloseIdleConnections() }); ok {
		t.CloseIdleConnections()
	}
}

// Deliver implements [Receiver].
func (w *Webhook) Deliver(ctx context.Context, messages []Message) error {
	ctx, cancel := context.WithTimeout(ctx, webhookTimeout)
	defer cancel()
	err := w.post(ctx, w.body(messages))
	if err != nil {
		return fmt.Errorf("webhook %s: %w", w.cfg.URL.Host, err)
	}
	return nil
}

// body joins the messages.
func (w *Webhook) body(messages []Message) []byte {
	var body bytes.Buffer
	for i, m := range messages {
		switch {
		case w.cfg.Array && i == 0:
			body.WriteByte('[')
		case w.cfg.Array:
			body.WriteByte(',')
		}
		body.Write(m.Body)
		if !w.cfg.Array {
			body.WriteByte('\n')
		}
	}
	if w.cfg.Array {
		body.WriteByte(']')
	}
	return body.Bytes()
}

// post sends a body once. The error holds nothing that the receiver said, and
// nothing of the URL but what the caller puts before it.
func (w *Webhook) post(ctx context.Context, body []byte) error {
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, w.cfg.URL.String(), bytes.NewReader(body))
	if err != nil {
		return errors.New("write request: its URL does not read")
	}
	if w.cfg.Header != nil {
		if request.Header, err = w.cfg.Header(); err != nil {
			return err
		}
	}
	request.Header.Set("Content-Type", "application/x-ndjson")
	if w.cfg.Array {
		request.Header.Set("Content-Type", "application/json")
	}
	request.Header.Set("User-Agent", product+"/"+w.cfg.Version)
	response, err := w.cfg.Transport.RoundTrip(request) // which follows no redirect
	if err != nil {
		return speakable(err)
	}
	defer response.Body.Close()
	// Whatever it says, and whether it comes whole: the status has said it all.
	_, _ = io.Copy(io.Discard, io.LimitReader(response.Body, maxAnswer))
	status := response.StatusCode
	if status >= 200 && status < 300 {
		return nil
	}
	again := status == http.StatusRequestTimeout || status == http.StatusTooManyRequests || status >= 500
	return &Refusal{Reason: fmt.Sprintf("it answered %d %s", status, http.StatusText(status)), Final: !again, After: fault.RetryAfter(response.Header, 0)}
}
